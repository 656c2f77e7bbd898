/**
 * The iSCSI transport over real TCP ports, with the initiators that hosts really use. What SCSI commands mean is not its matter: the
 * device server behind it is the least that these initiators take for a disk.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createConnection, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { initiatorName, targetName } from "../unit/support/iscsi_bench.ts";
import { type Answer, Initiator } from "../unit/support/iscsi_initiator.ts";
import { pattern } from "../unit/support/nbd_session.ts";
import { run, runOk, testWith } from "./support/clients.ts";
import { type RunningServer, startServer } from "./support/nbd_server.ts";

const test = suite("iscsi_clients");
const mebibyte = 1048576;
const volumeBytes = 64 * mebibyte;

let warm: RunningServer;
let cold: RunningServer;
let guarded: RunningServer;
let folder: string;

test.before(async () => {
  folder = mkdtempSync(join(tmpdir(), "goldcopy-iscsi-"));
  warm = await startServer([String(volumeBytes)], "iscsi");
  cold = await startServer([String(volumeBytes), "--cold"], "iscsi");
  guarded = await startServer([String(volumeBytes), "--chap=host%secret of host", "--own=oak%secret of oak"], "iscsi");
});

test.after(async () => {
  for (const server of [warm, cold, guarded]) await server.stop();
  rmSync(folder, { recursive: true, force: true });
});

const lun = (server: RunningServer) => `${server.uri}/${targetName}/0`;

/** As QEMU names an image over iSCSI, with the header digest wished for. */
function image(server: RunningServer, digest: string): string {
  const { address } = server;
  return `driver=raw,file.driver=iscsi,file.transport=tcp,file.portal=${address},file.target=${targetName},file.lun=0,file.header-digest=${digest}`;
}

testWith(test, ["iscsi-ls", "iscsi-inq"], "discovery and inquiry -> the target, its portal and LUN", async () => {
  const listed = (await runOk("iscsi-ls", ["-s", warm.uri])).stdout;
  assert.ok(listed.includes(`Target:${targetName} Portal:${warm.address},1`), listed);
  assert.ok(listed.includes("Lun:0    Type:DIRECT_ACCESS"), listed);
  assert.ok((await runOk("iscsi-inq", [lun(warm)])).stdout.includes("Peripheral Device Type:DIRECT_ACCESS"));
});

testWith(test, ["iscsi-test-cu"], "the transport's part of the conformance suite -> all passed", async () => {
  for (const server of [warm, cold]) {
    const { stdout } = await runOk("iscsi-test-cu", ["--dataloss", "--test=iSCSI", lun(server)], { limitMs: 120_000 });
    const [, ran, passed, failed] = /\n\s+tests\s+\d+\s+(\d+)\s+(\d+)\s+(\d+)/.exec(stdout) ?? [];
    assert.equal([ran, passed, failed], ["15", "15", "0"], stdout.slice(-3000));
  }
});

for (const digest of ["none", "crc32c"]) {
  testWith(test, ["qemu-img", "qemu-io"], `images with header digest ${digest} -> as they were`, async () => {
    const source = join(folder, "source.raw");
    const bytes = new Uint8Array(volumeBytes);
    bytes.set(pattern(20 * mebibyte + 512), 3 * mebibyte);
    writeFileSync(source, bytes);
    for (const server of [warm, cold]) {
      const opts = image(server, digest);
      await runOk("qemu-img", ["convert", "-n", "--target-image-opts", "-f", "raw", source, opts]);
      await runOk("qemu-img", ["compare", "--image-opts", `driver=raw,file.driver=file,file.filename=${source}`, opts]);
      const pieces = ["write -P 7 512 512", "write -P 8 1M 5M", "read -P 7 512 512", "read -P 8 1M 5M"];
      await runOk("qemu-io", ["--image-opts", opts, ...pieces.flatMap((piece) => ["-c", piece])]);
    }
  });
}

testWith(test, ["iscsi-perf"], "32 requests in flight for a while -> served to the end", async () => {
  for (const [blocks, requests] of [
    [8, 32],
    [2048, 8],
  ]) {
    const ran = await run("iscsi-perf", ["-r", "-t", "2", "-b", String(blocks), "-m", String(requests), lun(warm)]);
    assert.is(ran.code, 0, ran.stderr);
  }
});

testWith(test, ["iscsi-inq"], "CHAP one way and mutual -> in with the right secrets only", async () => {
  const as = (user: string) => `iscsi://${user}@${guarded.address}/${targetName}/0`;
  const host = "host%secret of host";
  await runOk("iscsi-inq", [as(host)]);
  await runOk("iscsi-inq", [`${as(host)}?target_user=oak&target_password=secret of oak`]);
  for (const wrong of ["host%secret of hosT", "hosT%secret of host"]) {
    const ran = await run("iscsi-inq", [as(wrong)]);
    assert.ok(ran.stderr.includes("Authentication failure"), ran.stderr);
  }
  const none = await run("iscsi-inq", [lun(guarded)]);
  assert.ok(none.stderr.includes("Authentication failure"), none.stderr);
  const impostor = await run("iscsi-inq", [`${as(host)}?target_user=oak&target_password=another secret`]);
  assert.ok(impostor.stderr.includes("Authentication failed"), impostor.stderr);
  assert.not.ok(/secret of/.test(guarded.reports()), guarded.reports());
});

/** A raw initiator on a socket. */
function connectTo(address: string): Promise<{ socket: Socket; initiator: Initiator }> {
  const colon = address.lastIndexOf(":");
  return new Promise((resolve) => {
    const socket = createConnection({ host: address.slice(0, colon), port: Number(address.slice(colon + 1)) });
    const wire = {
      send: (...pieces: Uint8Array[]) => {
        for (const piece of pieces) socket.write(piece);
      },
      received: new Uint8Array(0),
    };
    socket.on("data", (chunk: Buffer) => {
      wire.received = new Uint8Array(Buffer.concat([wire.received, chunk]));
    });
    const initiator = new Initiator(wire);
    // Refused or not: the flood goes on.
    socket.on("error", () => resolve({ socket, initiator }));
    socket.on("connect", () => resolve({ socket, initiator }));
  });
}

/** The next answer, when it has come. */
function answerOn({ socket, initiator }: { socket: Socket; initiator: Initiator }): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const look = () => {
      const [answer] = initiator.answers();
      if (answer === undefined) return;
      socket.off("data", look);
      resolve(answer);
    };
    socket.on("data", look);
    socket.on("close", () => reject(new Error("the connection closed")));
    look();
  });
}

test("1,000 half-finished logins -> the sessions beside them go on, memory stays, the address is limited", async () => {
  const names = { InitiatorName: initiatorName, TargetName: targetName };
  const host = await connectTo(cold.address);
  host.initiator.wire.send(host.initiator.loginPdu(names));
  assert.is((await answerOn(host)).loginStatus, 0);
  const rssBefore = residentBytes(cold.pid);
  const sockets: Socket[] = [];
  for (let index = 0; index < 1000; index++) {
    const { socket, initiator } = await connectTo(cold.address);
    if (!socket.destroyed) socket.write(initiator.loginPdu(names).subarray(0, 60));
    sockets.push(socket);
    if (index % 100 !== 99) continue;
    host.initiator.nop(`still here ${index}`);
    assert.is((await answerOn(host)).text, `still here ${index}`);
  }
  assert.ok(cold.reports().includes("iscsi-logins-limited"), cold.reports().slice(-500));
  assert.ok(residentBytes(cold.pid) - rssBefore < 64 * mebibyte);
  for (const socket of [...sockets, host.socket]) socket.destroy();
});

function residentBytes(pid: number): number {
  const pages = readFileSync(`/proc/${pid}/statm`, "utf8").split(" ")[1];
  return Number(pages) * 4096;
}

testWith(test, ["qemu-io"], "an orderly shutdown -> initiators are asked to log out, nothing is left", async () => {
  const server = await startServer([String(mebibyte)], "iscsi");
  await runOk("qemu-io", ["-f", "raw", "-c", "write 0 1M", lun(server)]);
  process.kill(server.pid, "SIGUSR2");
  const refused = await run("qemu-io", ["-f", "raw", "-c", "read 0 1M", lun(server)]);
  assert.is.not(refused.code, 0);
  assert.is(server.reports(), "");
  await server.stop();
});

test.run();
