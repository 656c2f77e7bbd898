/**
 * libiscsi's conformance suite against a real appliance: everything over one path, what wants two paths over two portals, what wants a
 * write-protected unit over a read-only mapping.
 *
 * The volume is 512 MiB: SANITIZE OVERWRITE writes 64 MiB/s, and `Sanitize.Reset` wants it to be at work for more than five seconds.
 */
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { freePorts, mebibyte, scratch, TestAppliance, wipe } from "./support/appliance.ts";
import { testWith } from "./support/clients.ts";
import { conformance, mistaken, skippedOfOnePath, testCount } from "./support/conformance.ts";

const test = suite("iscsi_conformance");
const targetName = "iqn.2026-11.org.goldcopy:oak";
const readerName = "iqn.2026-11.test.host:reader";

let dir = "";
let oak: TestAppliance;

test.before(async () => {
  dir = scratch();
  oak = await TestAppliance.make(join(dir, "oak"), { iscsiPorts: await freePorts(2), diskBytes: [1536 * mebibyte] });
  await oak.start();
  await oak.addVolume("data", 512 * mebibyte);
  await oak.demand("POST", "/v1/hosts", { name: "reader", iqns: [readerName] });
  await oak.demand("POST", "/v1/hosts/reader/map", { volume: "data", lun: 0, readOnly: true });
});
test.after(async () => {
  await oak.kill();
  wipe(dir);
});

const urls = (portals: readonly number[]) => portals.map((port) => `iscsi://${oak.iscsiPortal(port)}/${targetName}/0`);

testWith(test, ["iscsi-test-cu"], "all tests over one path -> all pass but the one that is mistaken", async () => {
  const { ran, passed, failed, skipped, end } = await conformance(["-t", "ALL", "--allow-sanitize"], urls([0]));
  assert.is(ran, testCount, end);
  assert.equal(failed, mistaken);
  assert.is(passed, testCount - mistaken.length);
  assert.equal(skipped, skippedOfOnePath);
});

testWith(test, ["iscsi-test-cu"], "the tests that want two paths, over two portals -> all pass", async () => {
  const { ran, passed, failed, skipped, end } = await conformance(["-t", "ALL.MultipathIO"], urls([0, 1]));
  assert.is(ran, 4, end);
  assert.is(passed, 4);
  assert.equal([failed, skipped], [[], []]);
});

testWith(
  test,
  ["iscsi-test-cu"],
  "the tests that want a write-protected unit, over a read-only mapping -> all pass",
  async () => {
    const { ran, passed, failed, skipped, end } = await conformance(
      ["-t", "ALL.ReadOnly", "-i", readerName],
      urls([0]),
    );
    assert.is(ran, 1, end);
    assert.is(passed, 1);
    assert.equal([failed, skipped], [[], []]);
  },
);

test.run();
