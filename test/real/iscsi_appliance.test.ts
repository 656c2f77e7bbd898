/** A real appliance under third-party iSCSI initiators: discovery, data beside NBD, masking, CHAP, a volume that grows. */
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { freePorts, mebibyte, scratch, TestAppliance, wipe } from "./support/appliance.ts";
import { run, runOk, testWith } from "./support/clients.ts";

const test = suite("iscsi_appliance");
const targetName = "iqn.2026-11.org.goldcopy:oak";

let dir = "";
let oak: TestAppliance;

test.before(async () => {
  dir = scratch();
  oak = await TestAppliance.make(join(dir, "oak"), { iscsiPorts: await freePorts(2), diskBytes: [1024 * mebibyte] });
  await oak.start();
  await oak.addVolume("data", 64 * mebibyte);
  await oak.addVolume("grows", 16 * mebibyte);
});
test.after(async () => {
  await oak.kill();
  wipe(dir);
});

const lun = (number: number, port = 0) => `iscsi://${oak.iscsiPortal(port)}/${targetName}/${number}`;

async function listed(iqn: string, proof = ""): Promise<{ code: number | null; luns: string[]; portals: number }> {
  const { code, stdout } = await run("iscsi-ls", ["-s", "-i", iqn, `iscsi://${proof}${oak.iscsiPortal()}`]);
  return { code, luns: stdout.match(/^Lun:\d+/gm) ?? [], portals: stdout.split("Target:").length - 1 };
}

testWith(test, ["iscsi-ls"], "discovery -> both portals, each with the mapped LUNs", async () => {
  const { luns, portals } = await listed("iqn.2026-11.test.host:anyone");
  assert.equal(luns, ["Lun:0", "Lun:1", "Lun:0", "Lun:1"]);
  assert.is(portals, 2);
});

testWith(
  test,
  ["qemu-io", "qemu-img"],
  "written by one portal -> read by the other, and the same over NBD",
  async () => {
    await runOk("qemu-io", ["-f", "raw", "-c", "write -P 7 1M 2M", "-c", "write -P 9 4096 512", lun(0)]);
    const read = await runOk("qemu-io", [
      "-r",
      "-f",
      "raw",
      "-c",
      "read -P 7 1M 2M",
      "-c",
      "read -P 9 4096 512",
      lun(0, 1),
    ]);
    assert.not.match(read.stdout, "Pattern verification failed");
    await runOk("qemu-img", ["compare", "-f", "raw", "-F", "raw", `nbd://${oak.hba()}/data`, lun(0)]);
  },
);

testWith(
  test,
  ["iscsi-ls"],
  "host by IQN with CHAP -> its own LUN with the right secret, nothing with a wrong one or none",
  async () => {
    const iqn = "iqn.2026-11.test.host:db";
    const chap = { user: "dbu", secret: "sixteen-bytes-16" };
    await oak.demand("POST", "/v1/hosts", { name: "db", iqns: [iqn], chap });
    assert.equal((await listed(iqn, "dbu%sixteen-bytes-16@")).luns, []);
    await oak.demand("POST", "/v1/hosts/db/map", { volume: "data", lun: 5 });
    assert.equal((await listed(iqn, "dbu%sixteen-bytes-16@")).luns, ["Lun:5", "Lun:5"]);
    assert.equal((await listed(iqn, "dbu%sixteen-bytes-17@")).luns, []);
    assert.equal((await listed(iqn)).luns, []);
    assert.is(JSON.stringify(await oak.demand("GET", "/v1/support")).includes("sixteen-bytes"), false);
  },
);

testWith(test, ["iscsi-readcapacity16"], "volume resized -> the initiator is told the new capacity", async () => {
  await oak.demand("POST", "/v1/volumes/grows/resize", { sizeBytes: 32 * mebibyte });
  const { stdout } = await runOk("iscsi-readcapacity16", [lun(1)]);
  assert.match(stdout, String(32 * mebibyte));
});

testWith(test, ["iscsi-ls"], "restart -> the same target, hosts and LUNs", async () => {
  await oak.kill();
  await oak.start();
  assert.equal((await listed("iqn.2026-11.test.host:db", "dbu%sixteen-bytes-16@")).luns, ["Lun:5", "Lun:5"]);
});

test.run();
