/** What the firmware that owns a pair's array knows of the pair: implemented by `partnership.ts`. */
import type { TargetPortGroup } from "../frontend/scsi/target_port_groups.ts";
import type { PairControl } from "../manage/control.ts";
import type { ApplianceJson, WarningJson } from "../manage/status_json.ts";
import type { CopyKeeper } from "./copy_keeper.ts";
import type { MirroredCache } from "./mirrored_cache.ts";

export interface PairPort extends PairControl {
  readonly partner: string;
  readonly mirror: MirroredCache;
  /** The operator has chosen write-back without a copy. */
  readonly writesBackAlone: boolean;
  /** The partner is there to take a copy. */
  readonly isCopyWanted: boolean;
  /** Called once the groups are open, before the first host is served. */
  keptBy(keeper: CopyKeeper): void;
  /** It has been served since the process began, here or by the partner: to hosts at this appliance it has not stopped. */
  succeeds(): boolean;
  /** The partner has served the group to its end a moment ago: it goes on, without being confirmed by a peer. */
  inherits(groupId: string): boolean;
  /** Space of the other half of the array; true: some has come. */
  moreSpace(): Promise<boolean>;
  /** How the partner is, for the status document. */
  partnerJson(): ApplianceJson;
  warnings(): WarningJson[];
  /** The target port groups of both appliances as they are now; see `ArraySeat.portGroupsChanged`. */
  portGroups(): readonly TargetPortGroup[];
}
