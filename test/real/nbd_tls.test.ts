/** STARTTLS with third-party clients: libnbd (GnuTLS) and QEMU; who has no good certificate gets nothing, every time. */
import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect, type TLSSocket } from "node:tls";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { bytesOf, command, goData, option } from "../unit/support/nbd_host.ts";
import { pattern } from "../unit/support/nbd_session.ts";
import { isOneLine, mebibyte, scratch, TestAppliance, wipe } from "./support/appliance.ts";
import { type Certificates, clientName, makeCertificates } from "./support/certificates.ts";
import { run, runOk, testWith } from "./support/clients.ts";
import { type RunningServer, startServer } from "./support/nbd_server.ts";
import { RawSocket } from "./support/raw_socket.ts";

const test = suite("nbd_tls");
const sizeBytes = 64 * 1024 * 1024;
const rounds = 40;

let folder = "";
let certificates: Certificates;
let required: RunningServer;
let optional: RunningServer;
let withoutCa: RunningServer;

test.before(async () => {
  folder = mkdtempSync(join(tmpdir(), "nbd-tls-"));
  certificates = await makeCertificates(join(folder, "certificates"));
  const from = `--certificates=${certificates.server}`;
  required = await startServer([`demo-1=${sizeBytes}`, "--tls=required", "--failed-logins=1000", from]);
  optional = await startServer([`demo-1=${sizeBytes}`, "--tls=optional", from]);
  withoutCa = await startServer([`demo-1=${sizeBytes}`, "--tls=required", from, "--no-ca"]);
});

test.after(async () => {
  for (const server of [required, optional, withoutCa]) await server.stop();
  rmSync(folder, { recursive: true, force: true });
});

/** libnbd's URI; the server's certificate is for `localhost` and 127.0.0.1. */
function uri(server: RunningServer, certificatesFolder: string, name = "demo-1"): string {
  return `nbds://${server.address}/${name}?tls-certificates=${certificatesFolder}`;
}

/** A host's socket past STARTTLS, about to shake hands. */
async function secureSocket(options: { readonly maxVersion?: "TLSv1.2" }): Promise<TLSSocket> {
  const plain = new RawSocket(required.address);
  plain.send(bytesOf({ u32: 3 }), option(5));
  assert.is((await plain.read(38)).readUInt32BE(18 + 12), 1);
  plain.socket.removeAllListeners("data");
  const read = (name: string) => readFileSync(join(certificates.server, name));
  return connect({
    socket: plain.socket,
    ca: read("ca.pem"),
    cert: read("client.pem"),
    key: read("client.key"),
    servername: "localhost",
    ...options,
  });
}

function qemuOptions(server: RunningServer, certificatesFolder: string): string[] {
  const port = server.address.slice(server.address.lastIndexOf(":") + 1);
  return [
    ...["--object", `tls-creds-x509,id=tls0,endpoint=client,dir=${certificatesFolder}`],
    ...["--image-opts", `driver=nbd,host=localhost,port=${port},export=demo-1,tls-creds=tls0`],
  ];
}

testWith(
  test,
  ["nbdinfo", "openssl"],
  "nbdinfo with a good certificate -> the export; the host's name is known",
  async () => {
    const { stdout } = await runOk("nbdinfo", [uri(required, certificates.client)]);
    assert.match(stdout, /protocol: newstyle-fixed with TLS/);
    assert.match(stdout, new RegExp(`export-size: ${sizeBytes}`));
    await runOk("nbdinfo", ["--list", uri(required, certificates.client)]);
    assert.match(required.reports(), new RegExp(`host: ${clientName}`));
  },
);

testWith(
  test,
  ["nbdcopy", "openssl"],
  "nbdcopy through TLS, four connections -> the same bytes back, also when optional",
  async () => {
    const source = join(folder, "source.img");
    const back = join(folder, "back.img");
    writeFileSync(source, pattern(sizeBytes, 7));
    for (const server of [required, optional, withoutCa]) {
      await runOk("nbdcopy", ["--connections=4", source, uri(server, certificates.client)]);
      await runOk("nbdcopy", ["--connections=4", uri(server, certificates.client), back]);
      await runOk("cmp", [source, back]);
    }
  },
);

testWith(
  test,
  ["qemu-img", "qemu-io", "openssl"],
  "qemu-img and qemu-io with tls-creds-x509 -> write, read, map, compare",
  async () => {
    const options = qemuOptions(required, certificates.client);
    await runOk("qemu-io", [...options, "-c", "write -P 0x5a 1M 3M", "-c", "read -P 0x5a 1M 3M", "-c", "flush"]);
    const info = await runOk("qemu-img", ["info", ...options]);
    assert.match(info.stdout, /virtual size: 64 MiB/);
    const mapped = await runOk("qemu-img", ["map", ...options, "--output=json"]);
    assert.ok(JSON.parse(mapped.stdout).length > 0);
    const copy = join(folder, "qemu.img");
    await runOk("qemu-img", ["convert", ...options, "-O", "raw", copy]);
    await runOk("nbdcopy", [uri(required, certificates.client), join(folder, "again.img")]);
    await runOk("cmp", [copy, join(folder, "again.img")]);
  },
);

testWith(
  test,
  ["nbdinfo", "openssl"],
  `a missing certificate, a rogue one, a good one, ${rounds} times each -> only the good one, every time`,
  async () => {
    const outcomes = { client: 0, rogue: 0, bare: 0 };
    for (let round = 0; round < rounds; round++) {
      for (const kind of ["client", "rogue", "bare"] as const) {
        const ran = await run("nbdinfo", ["--size", uri(required, certificates[kind])]);
        if (ran.code === 0) outcomes[kind]++;
      }
    }
    assert.equal(outcomes, { client: rounds, rogue: 0, bare: 0 });
    assert.is(required.reports().match(/^nbd-tls-failed: /gm)?.length, 2 * rounds, required.reports().slice(-2000));
  },
);

testWith(
  test,
  ["nbdinfo", "openssl"],
  "without a CA of its own the server asks for no certificate -> anybody who trusts it comes in",
  async () => {
    await runOk("nbdinfo", [uri(withoutCa, certificates.bare)]);
  },
);

testWith(
  test,
  ["nbdinfo", "openssl"],
  "a client that insists on TLS, or on none, where it is otherwise -> refused; optional takes both",
  async () => {
    assert.is.not((await run("nbdinfo", [`nbd://${required.address}/demo-1`])).code, 0);
    await runOk("nbdinfo", [`nbd://${optional.address}/demo-1`]);
    await runOk("nbdinfo", [uri(optional, certificates.client)]);
  },
);

test("TLS required -> every option before it gets ERR_TLS_REQD, EXPORT_NAME ends the session, ABORT is answered", async () => {
  const raw = new RawSocket(required.address);
  raw.send(bytesOf({ u32: 3 }));
  await raw.read(18);
  for (const kind of [3, 6, 7, 8, 9, 10, 11, 99]) {
    raw.send(option(kind, goData("demo-1")));
    const header = await raw.read(20);
    assert.is(header.readUInt32BE(12), 0x80000005, `option ${kind}`);
    await raw.read(header.readUInt32BE(16));
  }
  raw.send(option(2));
  assert.is((await raw.read(20)).readUInt32BE(12), 1);
  assert.is((await raw.ended()).byteLength, 0);
  raw.destroy();
  const old = new RawSocket(required.address);
  old.send(bytesOf({ u32: 3 }), option(1, bytesOf("demo-1")));
  assert.is((await old.ended()).byteLength, 18);
  old.destroy();
});

test("bytes pipelined in plain behind STARTTLS -> refused, whenever they come", async () => {
  const together = new RawSocket(required.address);
  together.send(bytesOf({ u32: 3 }), Buffer.concat([option(5), option(3)]));
  assert.is((await together.ended()).byteLength, 18, "no ACK");
  together.destroy();
  const after = new RawSocket(required.address);
  after.send(bytesOf({ u32: 3 }), option(5));
  assert.is((await after.read(38)).readUInt32BE(18 + 12), 1);
  after.send(option(3));
  await after.ended();
  assert.not(after.receivedText().includes("demo-1"));
  after.destroy();
  assert.ok(required.alive());
});

testWith(
  test,
  ["nbdinfo", "openssl"],
  "handshakes cut off at every stage -> nothing stays, others come in",
  async () => {
    for (let index = 0; index < 50; index++) {
      const raw = new RawSocket(required.address);
      raw.send(bytesOf({ u32: 3 }), option(5));
      await raw.read(38);
      if (index % 3 === 1) raw.send(new Uint8Array([0x16, 0x03, 0x01, 0x02, 0x00]));
      if (index % 3 === 2) raw.send(new Uint8Array([0x16, 0x03, 0x01, 0x00, 0x05, 1, 2, 3, 4, 5]));
      raw.socket.resetAndDestroy();
    }
    await runOk("nbdinfo", [uri(required, certificates.client)]);
    assert.ok(required.alive());
  },
);

testWith(
  test,
  ["openssl"],
  "TLS 1.2 and the newest -> accepted; DISC -> what was asked is answered, TLS and stream are closed in order",
  async () => {
    for (const options of [{ maxVersion: "TLSv1.2" }, {}] as const) {
      const secure = await secureSocket(options);
      const chunks: Buffer[] = [];
      secure.on("data", (chunk: Buffer) => chunks.push(chunk));
      const ended = new Promise<void>((resolve, reject) => {
        secure.on("error", reject);
        secure.on("end", resolve);
      });
      await new Promise<void>((resolve) => secure.once("secureConnect", resolve));
      assert.is(secure.getProtocol(), options.maxVersion ?? "TLSv1.3");
      const read = command({ command: 0, cookie: 5n, length: 4096 });
      secure.write(Buffer.concat([option(7, goData("demo-1")), read, command({ command: 2 })]));
      await ended;
      assert.is(Buffer.concat(chunks).byteLength, 32 + 34 + 20 + 16 + 4096);
      secure.destroy();
    }
  },
);

testWith(
  test,
  ["openssl"],
  "a host that asks for much through TLS and reads late -> every byte, in order",
  async () => {
    const secure = await secureSocket({});
    const chunks: Buffer[] = [];
    let receivedBytes = 0;
    const count = 64;
    const headBytes = 32 + 34 + 20;
    const wantedBytes = headBytes + count * (16 + mebibyte);
    const done = new Promise<void>((resolve, reject) => {
      secure.on("error", reject);
      secure.on("data", (chunk: Buffer) => {
        receivedBytes += chunk.byteLength;
        chunks.push(chunk);
        if (receivedBytes === wantedBytes) resolve();
      });
    });
    await new Promise<void>((resolve) => secure.once("secureConnect", resolve));
    secure.write(option(7, goData("demo-1")));
    secure.pause();
    for (let index = 0; index < count; index++) {
      secure.write(command({ command: 0, cookie: BigInt(index), length: mebibyte, offset: index * mebibyte }));
    }
    // Another host is served while this one does not read.
    await runOk("nbdinfo", [uri(required, certificates.client)]);
    secure.resume();
    await done;
    const back = Buffer.concat(chunks).subarray(headBytes);
    const volume = createHash("sha256");
    for (let index = 0; index < count; index++) {
      const reply = back.subarray(index * (16 + mebibyte), (index + 1) * (16 + mebibyte));
      assert.is(reply.readBigUInt64BE(8), BigInt(index));
      volume.update(reply.subarray(16));
    }
    const whole = join(folder, "whole.img");
    await runOk("nbdcopy", [uri(required, certificates.client), whole]);
    assert.is(volume.digest("hex"), createHash("sha256").update(readFileSync(whole)).digest("hex"));
    secure.destroy();
  },
);

testWith(
  test,
  ["nbdinfo", "nbdcopy", "openssl"],
  "an appliance with TLS required and a host by its TLS name -> only that host, only through TLS",
  async () => {
    const dir = scratch();
    const more = (key: string) =>
      ["[tls]", `certificate = "${certificates.server}/server.pem"`, `key = "${certificates.server}/${key}"`].join(
        "\n",
      ) + `\nca = "${certificates.server}/ca.pem"\nnbd = "required"\n`;
    const oak = await TestAppliance.make(join(dir, "oak"), { more: more("server.key") });
    try {
      const refused = await oak.refusal({ profile: oak.profile().replace("server.key", "client.key") });
      assert.is(refused.code, 1);
      assert.ok(isOneLine(refused.err) && /tls\.key: /.test(refused.err), refused.err);
      await oak.start();
      await oak.demand("POST", "/v1/volumes", { name: "data", sizeBytes: 16 * mebibyte });
      await oak.demand("POST", "/v1/hosts", { name: "db", tlsNames: [clientName] });
      await oak.demand("POST", "/v1/hosts/db/map", { volume: "data" });
      const at = (folder: string) => `nbds://${oak.hba()}/data?tls-certificates=${folder}`;
      const source = join(dir, "source.img");
      writeFileSync(source, pattern(16 * mebibyte, 3));
      await runOk("nbdcopy", [source, at(certificates.client)]);
      await runOk("nbdcopy", [at(certificates.client), join(dir, "back.img")]);
      await runOk("cmp", [source, join(dir, "back.img")]);
      assert.is.not((await run("nbdinfo", [`nbd://${oak.hba()}/data`])).code, 0);
      assert.is.not((await run("nbdinfo", [at(certificates.rogue)])).code, 0);
      await oak.demand("DELETE", "/v1/hosts/db");
      assert.is.not((await run("nbdinfo", [at(certificates.client)])).code, 0, "the name alone opens nothing");
      assert.ok(oak.eventsOf("nbd-tls-failed").length >= 1);
    } finally {
      await oak.kill();
      wipe(dir);
    }
  },
);

test.run();
