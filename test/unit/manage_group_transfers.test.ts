/** What is left of groups in the document of a half that they have left (`group_transfers.ts`). */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { type ArrayDocument, newArrayDocument } from "../../firmware/manage/array_document.ts";
import { GroupTransfers } from "../../firmware/manage/group_transfers.ts";
import type { GroupRegistry } from "../../firmware/manage/groups.ts";
import type { Pool } from "../../firmware/store/store.ts";
import { ManualClock } from "./support/manual_clock.ts";

const test = suite("manage_group_transfers");

test("a group has left, of which nobody knows the volumes -> the half forgets what it has of them when it knows its own", async () => {
  const [here, gone] = ["1".repeat(32), "2".repeat(32)];
  const mappings = ["here", "gone"].map((volume, lun) => ({ volume, lun, readOnly: false }));
  const host = { name: "h", any: true, addresses: [], iqns: [], tlsNames: [], chap: null, mappings };
  let document: ArrayDocument = { ...newArrayDocument(), hosts: [host], reservations: { [here]: {}, [gone]: {} } };
  // A start: the group's volumes are in its log.
  let role = "unconfirmed";
  const volumes = () => (role === "serving" ? [{ name: "here", uuid: here }] : []);
  const group = { volumes };
  const replication = { role: { is: (...roles: string[]) => roles.includes(role) } };
  const groups = {
    damaged: [],
    all: () => [group],
    entries: () => [{ group, replication }],
    findVolume: (name: string) => volumes().find((volume) => volume.name === name) ?? null,
  };
  const pool = { endMove: (_: string, done: (error: null) => void) => done(null), groupClaims: () => [] };
  const forgotten: string[] = [];
  const transfers = new GroupTransfers({
    clock: new ManualClock(),
    inheritMs: 0,
    pool: pool as unknown as Pool,
    groups: groups as unknown as GroupRegistry,
    document: () => document,
    save: async (next) => {
      document = next;
      return null;
    },
    forgetUnits: (uuids) => forgotten.push(...uuids),
    changed: () => {},
  });
  const left = () => [document.hosts[0]!.mappings.map(({ volume }) => volume), Object.keys(document.reservations)];
  assert.ok((await transfers.end("3".repeat(32), { volumes: [], uuids: [] })).ok);
  assert.equal(left(), [
    ["here", "gone"],
    [here, gone],
  ]);
  role = "serving";
  await transfers.openClosed();
  assert.equal(left(), [["here"], [here]]);
  assert.equal(forgotten, [gone]);
});

test.run();
