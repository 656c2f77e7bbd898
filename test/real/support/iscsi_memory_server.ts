/**
 * A process that serves one LUN in memory over iSCSI with the real transport and the real TCP ports, for tests with third-party
 * initiators and for measuring the transport alone.
 *
 * Arguments: `SIZE_BYTES`, `--cold` (no read is served at once), `--chap=USER%SECRET`, `--own=USER%SECRET`. Prints the address as its
 * first line. `SIGUSR2`: orderly shutdown. Ends with its standard input.
 */
import { IscsiServer } from "../../../firmware/frontend/iscsi/server.ts";
import type { ChapCredentials } from "../../../firmware/volume/host_access.ts";
import { LinuxClock } from "../../../hal/linux/clock.ts";
import { linuxDigests } from "../../../hal/linux/digests.ts";
import { linuxEntropy } from "../../../hal/linux/entropy.ts";
import { LinuxHbaPort } from "../../../hal/linux/hba.ts";
import { targetName } from "../../unit/support/iscsi_bench.ts";
import { MemoryTarget, MemoryVolume } from "../../unit/support/memory_target.ts";
import { SmallDisk } from "./small_disk.ts";

function credentials(name: string): ChapCredentials | null {
  const [user, secret] =
    (process.argv.find((word) => word.startsWith(`--${name}=`)) ?? "").split("=")[1]?.split("%") ?? [];
  return user === undefined || secret === undefined ? null : { user, secret: new TextEncoder().encode(secret) };
}

const clock = new LinuxClock();
const volume = new MemoryVolume("demo-1", Number(process.argv[2]), null);
volume.recording = false;
volume.cold = process.argv.includes("--cold");
const port = new LinuxHbaPort({ name: "hba0", listen: "127.0.0.1:0", protocol: "iscsi" }, clock);
const server = new IscsiServer({
  clock,
  entropy: linuxEntropy,
  digests: linuxDigests,
  hashes: linuxDigests,
  authority: { required: () => credentials("chap") ?? "open", own: credentials("own") },
  deviceServer: new SmallDisk(new MemoryTarget(volume)),
  events: { emit: (code, text) => process.stderr.write(`${code}: ${text}\n`) },
  targetName,
  portals: () => [port.address],
});
port.listen(
  (stream) => server.accept(stream, 1),
  (error) => {
    if (error !== null) {
      process.stderr.write(`${error}\n`);
      process.exit(1);
    }
    process.stdout.write(`${port.address}\n`);
  },
);
process.on("SIGUSR2", () => server.closeAll());
process.stdin.on("end", () => process.exit(0));
process.stdin.resume();
