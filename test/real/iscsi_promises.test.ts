/**
 * What an array promises to iSCSI hosts, on a real appliance: acknowledged writes and reservations outlive SIGKILL, a volume that grows
 * is announced, nobody sees what is not mapped, each side proves itself, a golden copy takes no writes.
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { waitUntil } from "../../scripts/lab_site/wait.ts";
import { freePorts, mebibyte, scratch, TestAppliance, wipe } from "./support/appliance.ts";
import { run, runOk, testWith } from "./support/clients.ts";
import { cdbOf, IscsiHost, reserveList } from "./support/iscsi_host.ts";

const test = suite("iscsi_promises");
const target = "iqn.2026-11.org.goldcopy:oak";
const volumeBytes = 64 * mebibyte;
const blockBytes = 4096;
const reservationConflict = 0x18;
const exclusiveAccess = 3;

let dir = "";
let oak: TestAppliance;

test.before(async () => {
  dir = scratch();
  const secretFile = join(dir, "own.secret");
  writeFileSync(secretFile, "the secret of oak\n");
  oak = await TestAppliance.make(join(dir, "oak"), {
    iscsiPorts: await freePorts(2),
    diskBytes: [1024 * mebibyte],
    more: `[iscsi]\nchap_user = "oak"\nchap_secret_file = "${secretFile}"\n`,
  });
  await oak.start();
  await oak.demand("POST", "/v1/volumes", { name: "data", sizeBytes: volumeBytes });
  await oak.demand("POST", "/v1/volumes", { name: "other", sizeBytes: 16 * mebibyte });
  for (const name of ["a", "b"]) {
    await oak.demand("POST", "/v1/hosts", { name, iqns: [iqn(name)] });
    await oak.demand("POST", `/v1/hosts/${name}/map`, { volume: "data", lun: 0 });
  }
  await oak.demand("POST", "/v1/hosts", { name: "nbd", addresses: ["127.0.0.1"] });
  await oak.demand("POST", "/v1/hosts/nbd/map", { volume: "data" });
});
test.after(async () => {
  await oak.kill();
  wipe(dir);
});

const iqn = (name: string) => `iqn.2026-11.test.host:${name}`;
const login = (name: string, portal = 0) => IscsiHost.login(oak.iscsiPortal(portal), { initiator: iqn(name), target });

test("SIGKILL under iSCSI writes, three times -> every acknowledged write is there", async () => {
  const blocks = volumeBytes / blockBytes;
  /** Per block the stamp of its last acknowledged write, and of one that may be there as well. */
  const acknowledged = new Map<number, number>();
  const unknown = new Map<number, number>();
  let stamp = 0;
  const contentOf = (block: number, round: number) => {
    const content = new Uint8Array(blockBytes);
    const words = new Uint32Array(content.buffer);
    for (let at = 0; at < words.length; at += 2) words.set([block, round], at);
    return content;
  };
  for (let round = 0; round < 3; round++) {
    const host = await login("a");
    await host.ready();
    const before = stamp;
    const worker = async (first: number) => {
      for (let block = first; ; block = (block + 16 * 7) % blocks) {
        const mine = ++stamp;
        unknown.set(block, mine);
        const { status } = await host.command(cdbOf.write10(block * 8, 8), { data: contentOf(block, mine) });
        assert.is(status, 0);
        acknowledged.set(block, mine);
        unknown.delete(block);
      }
    };
    const workers = Promise.allSettled(Array.from({ length: 16 }, (_, index) => worker(index + 16 * round)));
    const isBusy = await waitUntil(20_000, 2, () => (stamp - before > 500 ? true : null));
    assert.ok(isBusy);
    await oak.kill();
    for (const ended of await workers)
      assert.match(ended.status === "rejected" ? String(ended.reason) : "", "the session is lost");
    await oak.start();
    const reader = await login("a", 1);
    await reader.ready();
    for (const [block, mine] of acknowledged) {
      const { status, data } = await reader.command(cdbOf.read10(block * 8, 8), { readBytes: blockBytes });
      assert.is(status, 0);
      const found = [mine, unknown.get(block) ?? mine].some((one) => Buffer.compare(data, contentOf(block, one)) === 0);
      assert.ok(found, `block ${block} of ${acknowledged.size}, round ${round}`);
      // Either is what a later write finds.
      if (unknown.has(block)) acknowledged.set(block, new Uint32Array(data.buffer)[1]!);
    }
    unknown.clear();
    reader.close();
  }
  assert.ok(acknowledged.size > 500, String(acknowledged.size));
});

testWith(
  test,
  ["qemu-io"],
  "reserved with APTPL -> holds against all others, NBD too, over SIGKILL, until released",
  async () => {
    const nbd = async (command: string) => {
      const ran = await run("qemu-io", ["-f", "raw", "-c", command, `nbd://${oak.hba()}/data`]);
      return ran.code === 0 && !/fail|error|not permitted/i.test(ran.stdout + ran.stderr);
    };
    const holder = await login("a");
    await holder.ready();
    assert.ok(await nbd("write -P 5 0 4096"));
    const reserve = (host: IscsiHost, action: number, type: number, list: Uint8Array) =>
      host.command(cdbOf.reserveOut(action, type), { data: list });
    assert.is((await reserve(holder, 0, 0, reserveList(0, 7, true))).status, 0, "registered");
    assert.is((await reserve(holder, 1, exclusiveAccess, reserveList(7, 0, false))).status, 0, "reserved");
    for (const killed of [false, true]) {
      if (killed) {
        holder.close();
        await oak.kill();
        await oak.start();
        assert.not(await nbd("read 0 4096"), "before any SCSI host is back");
      }
      const stranger = await login("b", 1);
      await waitUntil(5000, 1, async () => ((await stranger.command([0])).status === 2 ? null : true));
      assert.is((await stranger.command(cdbOf.read10(0, 8), { readBytes: blockBytes })).status, reservationConflict);
      assert.is(
        (await stranger.command(cdbOf.write10(0, 8), { data: new Uint8Array(blockBytes) })).status,
        reservationConflict,
      );
      assert.not(await nbd("write -P 6 0 4096"));
      assert.not(await nbd("read 0 4096"));
      stranger.close();
    }
    const back = await login("a");
    await back.ready();
    const { status, data } = await back.command(cdbOf.read10(0, 8), { readBytes: blockBytes });
    assert.is(status, 0);
    assert.ok(data.every((byte) => byte === 5));
    assert.is((await reserve(back, 2, exclusiveAccess, reserveList(7, 0, false))).status, 0, "released");
    assert.ok(await nbd("write -P 6 0 4096"));
    assert.is((await reserve(back, 0, 0, reserveList(7, 0, false))).status, 0, "unregistered");
    back.close();
  },
);

test("volume resized under a session -> one unit attention, then the new capacity", async () => {
  const host = await login("a");
  await host.ready();
  await oak.demand("POST", "/v1/volumes/data/resize", { sizeBytes: 2 * volumeBytes });
  const told = await host.command([0]);
  assert.equal([told.status, told.sense], [2, 0x062a09]);
  assert.is((await host.command([0])).status, 0);
  const { data } = await host.command(cdbOf.readCapacity16(), { readBytes: 32 });
  assert.is(Number(new DataView(data.buffer).getBigUint64(0)), (2 * volumeBytes) / 512 - 1);
  host.close();
});

test("mapped while logged in -> told, listed; unmapped -> gone; a host that no entry knows -> no session", async () => {
  const host = await login("b");
  await host.ready();
  const luns = async () => {
    const { data } = await host.command(cdbOf.reportLuns(), { readBytes: 256 });
    const bytes = new DataView(data.buffer).getUint32(0);
    return Array.from({ length: bytes / 8 }, (_, index) => data[8 + index * 8 + 1]);
  };
  assert.equal(await luns(), [0]);
  await oak.demand("POST", "/v1/hosts/b/map", { volume: "other", lun: 4 });
  const told = await host.command([0]);
  assert.equal([told.status, told.sense], [2, 0x063f0e]);
  assert.equal(await luns(), [0, 4]);
  await host.ready(4);
  await oak.demand("POST", "/v1/hosts/b/unmap", { volume: "other" });
  const again = await login("b").then(
    (session) => session,
    () => null,
  );
  assert.ok(again !== null);
  await again.ready();
  const { sense } = await again.command([0], { lun: 4 });
  assert.is(sense, 0x052500, "LOGICAL UNIT NOT SUPPORTED");
  again.close();
  host.close();
  // Its address would be enough.
  await oak.demand("DELETE", "/v1/hosts/nbd");
  const refused = await login("nobody").then(
    () => "a session",
    (error: Error) => error.message,
  );
  assert.match(refused, "login refused: 0x202");
});

testWith(
  test,
  ["iscsi-inq"],
  "mutual CHAP -> each proves itself; a wrong secret of either ends the login",
  async () => {
    await oak.demand("POST", "/v1/hosts", {
      name: "db",
      iqns: [iqn("db")],
      chap: { user: "db", secret: "the secret of db" },
    });
    await oak.demand("POST", "/v1/hosts/db/map", { volume: "other", lun: 0 });
    const inquire = (own: string, theirs: string) =>
      run("iscsi-inq", [
        "-i",
        iqn("db"),
        `iscsi://db%${own}@${oak.iscsiPortal()}/${target}/0?target_user=oak&target_password=${theirs}`,
      ]);
    const good = await inquire("the secret of db", "the secret of oak");
    assert.match(good.stdout, "DIRECT_ACCESS");
    assert.match((await inquire("the secret of dB", "the secret of oak")).stderr, "Authentication failure");
    assert.match((await inquire("the secret of db", "the secret of elm")).stderr, "Authentication failed");
    for (const { text } of oak.events()) assert.not.match(text, "the secret of");
  },
);

testWith(
  test,
  ["qemu-img", "qemu-io"],
  "golden copy -> the same bytes under the same identity, write-protected",
  async () => {
    const [oakNics, elmNics, ...portals] = [await freePorts(2), await freePorts(2), ...(await freePorts(4))];
    const sides = await Promise.all(
      [
        { array: "gold", name: "gold-a", nicPorts: oakNics, peer: { array: "elm", name: "elm-a", nicPorts: elmNics } },
        { array: "elm", name: "elm-a", nicPorts: elmNics, peer: { array: "gold", name: "gold-a", nicPorts: oakNics } },
      ].map(({ array, name, nicPorts, peer }, index) =>
        TestAppliance.make(join(dir, array), {
          array,
          name,
          nicPorts,
          iscsiPorts: portals.slice(index * 2, index * 2 + 2) as number[],
          peers: [peer],
        }),
      ),
    );
    const [gold, elm] = sides as [TestAppliance, TestAppliance];
    try {
      await Promise.all(sides.map((side) => side.start()));
      await gold.addVolume("data", 16 * mebibyte);
      await gold.demand("POST", "/v1/groups/data/add-peer", { array: "elm", mode: "async" });
      await elm.demand("POST", "/v1/hosts", { name: "any", any: true });
      const lun = (side: TestAppliance) =>
        `iscsi://${side.iscsiPortal()}/iqn.2026-11.org.goldcopy:${side.shape.array}/0`;
      await runOk("qemu-io", ["-f", "raw", "-c", "write -P 0x33 0 8M", lun(gold)]);
      const isInSync = await waitUntil(30_000, 50, async () => {
        const state = (await gold.group("data")).peers[0];
        return state?.state === "in-sync" && state.lagSeqs === 0 ? true : null;
      });
      assert.ok(isInSync);
      await elm.demand("POST", "/v1/hosts/any/map", { volume: "data" });
      await runOk("qemu-img", ["compare", "-f", "raw", "-F", "raw", lun(gold), lun(elm)]);
      const host = await IscsiHost.login(elm.iscsiPortal(), {
        initiator: iqn("x"),
        target: "iqn.2026-11.org.goldcopy:elm",
      });
      await host.ready();
      const refused = await host.command(cdbOf.write10(0, 8), { data: new Uint8Array(blockBytes) });
      assert.equal([refused.status, refused.sense], [2, 0x072700]);
      await gold.demand("POST", "/v1/volumes/data/resize", { sizeBytes: 32 * mebibyte });
      const told = await waitUntil(10_000, 20, async () => {
        const { status, sense } = await host.command([0]);
        return status === 0 ? null : sense;
      });
      assert.is(told, 0x062a09, "grown at the primary");
      host.close();
      const identity = async (side: TestAppliance) => {
        const { stdout } = await runOk("iscsi-inq", ["-e", "1", "-c", "0x83", lun(side)]);
        return stdout.match(/naa[^\n]*|Designator:[^\n]*[0-9a-f]{16,}[^\n]*/gi) ?? [];
      };
      assert.equal(await identity(elm), await identity(gold));
    } finally {
      await Promise.all(sides.map((side) => side.kill()));
    }
  },
);

test.run();
