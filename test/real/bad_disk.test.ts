/** A disk that fails under a running appliance: shown in the status, and nothing acknowledged is lost. */
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { StatusJson } from "../../firmware/manage/status_json.ts";
import { waitUntil } from "../../scripts/lab_site/wait.ts";
import { mebibyte, scratch, TestAppliance, wipe } from "./support/appliance.ts";
import { NbdHost } from "./support/raw_socket.ts";

const test = suite<{ dir: string; oak: TestAppliance }>("bad_disk");
const block = (fill: number) => new Uint8Array(65536).fill(fill);

test.before(async (context) => {
  context.dir = scratch();
  context.oak = await TestAppliance.make(join(context.dir, "oak"));
});
test.after(async ({ dir, oak }) => {
  await oak.kill();
  wipe(dir);
});

test("the disk fails, then works again -> a warning meanwhile; after a restart every acknowledged write, no warning", async ({
  oak,
}) => {
  const warnings = async () => (await oak.demand<StatusJson>("GET", "/v1/status")).warnings.map(({ code }) => code);
  await oak.start();
  await oak.addVolume("v", 64 * mebibyte);
  const host = (await NbdHost.open(oak.hba(), "v"))!;
  assert.is(await host.write(0, block(1)), 0);
  assert.not((await warnings()).includes("shelf-trouble"));
  await oak.demand("POST", "/v1/lab/fault", { kind: "disk", place: null, on: true });
  const acked: number[] = [];
  for (let at = 1; at < 20; at++) if ((await host.write(at * 65536, block(at + 1))) === 0) acked.push(at);
  const shown = await waitUntil(20_000, 50, async () => ((await warnings()).includes("shelf-trouble") ? true : null));
  assert.ok(shown, "the status says so");
  host.raw.destroy();
  await oak.kill();
  await oak.start();
  const again = (await NbdHost.open(oak.hba(), "v"))!;
  assert.equal(await again.read(0, 65536), Buffer.from(block(1)));
  for (const at of acked) assert.equal(await again.read(at * 65536, 65536), Buffer.from(block(at + 1)), `block ${at}`);
  assert.not((await warnings()).includes("shelf-trouble"));
  assert.ok(acked.length > 0, "the cache took writes");
  again.close();
});

test.run();
