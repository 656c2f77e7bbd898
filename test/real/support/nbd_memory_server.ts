/**
 * A process that serves volumes in memory over NBD with the real front end and the real TCP ports, for tests with third-party
 * clients and for measuring the front end alone.
 *
 * Arguments: `NAME=SIZE_BYTES[:ro]...`, `--cold` (no read is served at once), `--tls=off|optional|required` with
 * `--failed-logins=N` (how many an address may have), `--certificates=FOLDER` (server.pem, server.key, and ca.pem unless `--no-ca`). Prints the address as its first line. Ends with its standard input.
 */
import { join } from "node:path";
import type { TlsUse } from "../../../firmware/frontend/nbd/negotiation.ts";
import { NbdServer } from "../../../firmware/frontend/nbd/server.ts";
import { LinuxClock } from "../../../hal/linux/clock.ts";
import { LinuxHbaPort } from "../../../hal/linux/hba.ts";
import { readTlsFiles, type TlsFiles } from "../../../hal/linux/tls_files.ts";
import { MemoryExports, MemoryVolume } from "../../unit/support/memory_target.ts";

const clock = new LinuxClock();
const exports = new MemoryExports();
const cold = process.argv.includes("--cold");
for (const argument of process.argv.slice(2)) {
  const match = /^([\w-]+)=(\d+)(:ro)?$/.exec(argument);
  if (match === null) continue;
  const volume = exports.add(new MemoryVolume(match[1]!, Number(match[2]), null, `memory, ${match[2]} bytes`));
  volume.readOnly = match[3] !== undefined;
  volume.recording = false;
  volume.cold = cold;
}

/** Every host that asks for something is printed, as far as its transport has proved it. */
const list = exports.list.bind(exports);
exports.list = (host) => {
  if (host.tlsName !== null) process.stderr.write(`host: ${host.tlsName}\n`);
  return list(host);
};

const folder = optionValue("certificates");
const files = folder === null ? null : tlsFiles(folder);
const tls = files === null ? null : readTlsFiles(files, clock.wallMs());
if (tls !== null && "error" in tls) {
  process.stderr.write(`${tls.error}\n`);
  process.exit(1);
}

const server = new NbdServer({
  clock,
  exports,
  limits: { failedLoginsMax: Number(optionValue("failed-logins") ?? 20) },
  tls: (optionValue("tls") as TlsUse | null) ?? "off",
  events: { emit: (code, text) => process.stderr.write(`${code}: ${text}\n`) },
});
const port = new LinuxHbaPort({ name: "hba0", listen: "127.0.0.1:0", protocol: "nbd" }, clock, tls);
port.listen(
  (stream) => server.accept(stream),
  (error) => {
    if (error !== null) {
      process.stderr.write(`${error}\n`);
      process.exit(1);
    }
    process.stdout.write(`${port.address}\n`);
  },
);
process.stdin.on("end", () => process.exit(0));
process.stdin.resume();

function optionValue(option: string): string | null {
  const prefix = `--${option}=`;
  const found = process.argv.find((argument) => argument.startsWith(prefix));
  return found === undefined ? null : found.slice(prefix.length);
}

function tlsFiles(folder: string): TlsFiles {
  return {
    certificate: join(folder, "server.pem"),
    key: join(folder, "server.key"),
    ca: process.argv.includes("--no-ca") ? null : join(folder, "ca.pem"),
  };
}
