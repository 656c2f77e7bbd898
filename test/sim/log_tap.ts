/**
 * A tap on every write log of the process: the simulation learns of each record at the moment it is appended, on whichever array,
 * of each move of a commitSeq, of each log that is emptied, and of groups that move between the halves of a pair's array. It looks, and
 * changes nothing.
 *
 * The log's methods are wrapped once per process; records go to the tap in force, so that one process can run many worlds in turn.
 */
import { emptyHeader, isAsOf, type RecordHeader, readHeader } from "../../firmware/log/record.ts";
import { WriteLog } from "../../firmware/log/write_log.ts";
import { GroupRegistry } from "../../firmware/manage/groups.ts";
import { Group } from "../../firmware/volume/group.ts";
import type { Serving } from "../../firmware/volume/group_port.ts";

export interface LogTap {
  /** `at`: where the record stands in the log's memory. As-of records are not told. */
  appended(log: WriteLog, header: RecordHeader, at: number): void;
  /** `commitSeq` has grown: hosts may see more from now on. */
  committed(log: WriteLog): void;
  emptied(log: WriteLog): void;
  servingChanged(group: Group, serving: Serving): void;
  /** The group begins to leave for the other half: hosts wait, and what they were told is on the shelf. */
  leaving(group: Group): void;
  /** The group has come from the other half, or back. */
  came(groups: GroupRegistry): void;
}

let tapInForce: LogTap | null = null;
let wrapped = false;
const header = emptyHeader();

/** From now on `tap` is told; null: nobody. */
export function tapLogs(tap: LogTap | null): void {
  tapInForce = tap;
  if (!wrapped) wrap();
  wrapped = true;
}

function wrap(): void {
  const { recordAppended, advanceCommit, reset } = WriteLog.prototype;
  WriteLog.prototype.recordAppended = function (this: WriteLog, at, totalBytes, lastSeq, wallMs) {
    recordAppended.call(this, at, totalBytes, lastSeq, wallMs);
    if (tapInForce === null) return;
    readHeader(this.list.region, at, header);
    if (!isAsOf(header.kind)) tapInForce.appended(this, header, at);
  };
  WriteLog.prototype.advanceCommit = function (this: WriteLog) {
    const before = this.commitSeq;
    advanceCommit.call(this);
    if (this.commitSeq > before) tapInForce?.committed(this);
  };
  WriteLog.prototype.reset = function (this: WriteLog, lineage, seq) {
    reset.call(this, lineage, seq);
    tapInForce?.emptied(this);
  };
  const { letGo, takeUp } = GroupRegistry.prototype;
  GroupRegistry.prototype.letGo = function (this: GroupRegistry, entry) {
    tapInForce?.leaving(entry.group);
    return letGo.call(this, entry);
  };
  GroupRegistry.prototype.takeUp = async function (this: GroupRegistry, id, inherits) {
    const taken = await takeUp.call(this, id, inherits);
    if (taken.ok) tapInForce?.came(this);
    return taken;
  };
  const { setServing } = Group.prototype;
  Group.prototype.setServing = function (this: Group, serving) {
    setServing.call(this, serving);
    tapInForce?.servingChanged(this, serving);
  };
}
