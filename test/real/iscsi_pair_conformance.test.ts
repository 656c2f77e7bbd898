/**
 * libiscsi's conformance suite against a pair of real appliances: what wants two paths over both, everything that wants one path through
 * the standby, which brings it to the owner. One device server answers: the verdict has to be that of a single appliance.
 */
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { otherOf, type PairSite, pairAlone } from "../../scripts/benchmarks/pair_site.ts";
import { runOk, testWith } from "./support/clients.ts";
import { conformance, mistaken, skippedOfOnePath, testCount } from "./support/conformance.ts";

const test = suite("iscsi_pair_conformance");
const volumeBytes = 256 * 1024 ** 2;

let dir = "";
let site: PairSite;

test.before(async () => {
  dir = mkdtempSync(join(existsSync("/dev/shm") ? "/dev/shm" : tmpdir(), "goldcopy-conformance-"));
  site = await pairAlone(dir, volumeBytes);
});
test.after(async () => {
  await site?.down();
  rmSync(dir, { recursive: true, force: true });
});

/** SANITIZE, of which most of the time is waiting, is left to the single appliance. */
const isNoSanitize = (skipped: string): boolean => !skipped.startsWith("Sanitize.");

testWith(test, ["iscsi-test-cu"], "all tests, through the standby -> as over one appliance", async () => {
  const [, standby] = await site.paths("iscsi");
  const { ran, passed, failed, skipped, end } = await conformance(["-t", "ALL"], [standby!]);
  assert.is(ran, testCount, end);
  assert.equal(failed, mistaken);
  assert.is(passed, testCount - mistaken.length);
  assert.equal(skipped.filter(isNoSanitize), skippedOfOnePath.filter(isNoSanitize));
});

/**
 * `MultipathIO.CompareAndWrite` writes zeros to blocks 0 to 255, compares blocks 0 to 256 with zeros, and leaves all of them changed: its
 * last block has to be zero before, or it fails from its second run on.
 */
async function prepareLastBlock(): Promise<void> {
  const url = site.url(await site.owner(), "nbd");
  await runOk("qemu-io", ["-f", "raw", "-c", "write -z 128k 4k", url]);
}

testWith(
  test,
  ["iscsi-test-cu", "qemu-io"],
  "the tests that want two paths, over both appliances, after a hand-over and after a takeover -> all pass",
  async () => {
    const pass = async () => {
      const paths = await site.paths("iscsi");
      for (const urls of [paths, paths.toReversed()]) {
        await prepareLastBlock();
        const { ran, passed, failed, skipped, end } = await conformance(["-t", "ALL.MultipathIO"], urls);
        assert.equal([ran, passed, failed, skipped], [4, 4, [], []], end);
      }
    };
    const former = await site.mirrored();
    await pass();
    await site.handOver();
    await pass();
    await site.mirrored();
    await site.kill(otherOf(former));
    assert.is(await site.repair(), former);
    await pass();
  },
);

test.run();
