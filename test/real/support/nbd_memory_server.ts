/**
 * A process that serves volumes in memory over NBD with the real front end and the real TCP ports, for tests with third-party
 * clients and for measuring the front end alone.
 *
 * Arguments: `NAME=SIZE_BYTES[:ro]...`, `--cold` (no read is served at once). Prints the address as its first line. Ends with its standard input.
 */
import { NbdServer } from "../../../firmware/frontend/nbd/server.ts";
import { LinuxClock } from "../../../hal/linux/clock.ts";
import { LinuxHbaPort } from "../../../hal/linux/hba.ts";
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

const server = new NbdServer({
  clock,
  exports,
  events: { emit: (code, text) => process.stderr.write(`${code}: ${text}\n`) },
});
const port = new LinuxHbaPort({ name: "hba0", listen: "127.0.0.1:0", protocol: "nbd" }, clock);
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
