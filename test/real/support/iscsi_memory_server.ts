/**
 * A process that serves one volume in memory as LUN 0 over iSCSI, with the real transport, the real device server and the real TCP
 * ports, for tests with third-party initiators and for measuring the front end alone.
 *
 * Arguments: `SIZE_BYTES`, `--cold` (no read is served at once), `--chap=USER%SECRET`, `--own=USER%SECRET`. Prints the addresses of its
 * two portals, a line each. `SIGUSR2`: orderly shutdown. Ends with its standard input.
 */
import { IscsiServer } from "../../../firmware/frontend/iscsi/server.ts";
import { TargetDevice } from "../../../firmware/frontend/scsi/target_device.ts";
import type { ChapCredentials } from "../../../firmware/volume/host_access.ts";
import { LinuxClock } from "../../../hal/linux/clock.ts";
import { linuxDigests } from "../../../hal/linux/digests.ts";
import { linuxEntropy } from "../../../hal/linux/entropy.ts";
import { LinuxHbaPort } from "../../../hal/linux/hba.ts";
import { targetName } from "../../unit/support/iscsi_bench.ts";
import { MemoryLuns, MemoryReservations, MemoryVolume } from "../../unit/support/memory_target.ts";

function credentials(name: string): ChapCredentials | null {
  const [user, secret] =
    (process.argv.find((word) => word.startsWith(`--${name}=`)) ?? "").split("=")[1]?.split("%") ?? [];
  return user === undefined || secret === undefined ? null : { user, secret: new TextEncoder().encode(secret) };
}

const clock = new LinuxClock();
const luns = new MemoryLuns();
const volume = luns.add(new MemoryVolume("demo-1", Number(process.argv[2]), null));
volume.recording = false;
volume.cold = process.argv.includes("--cold");
const ports = ["hba0", "hba1"].map(
  (name) => new LinuxHbaPort({ name, listen: "127.0.0.1:0", protocol: "iscsi" }, clock),
);
const deviceServer = new TargetDevice({
  clock,
  luns,
  reservations: new MemoryReservations(clock),
  targetName,
  portGroups: () => [{ id: 1, state: "active-optimized", preferred: false, ports: ports.map((_, index) => index + 1) }],
});
const server = new IscsiServer({
  clock,
  entropy: linuxEntropy,
  digests: linuxDigests,
  hashes: linuxDigests,
  authority: { required: () => credentials("chap") ?? "open", own: credentials("own") },
  deviceServer,
  events: { emit: (code, text) => process.stderr.write(`${code}: ${text}\n`) },
  targetName,
  portals: () => ports.map(({ address }) => ({ address, portalGroup: 1 })),
});
let listening = 0;
for (const [index, port] of ports.entries()) {
  port.listen(
    (stream) => server.accept(stream, index + 1),
    (error) => {
      if (error !== null) {
        process.stderr.write(`${error}\n`);
        process.exit(1);
      }
      listening++;
      if (listening === ports.length) for (const { address } of ports) process.stdout.write(`${address}\n`);
    },
  );
}
process.on("SIGUSR2", () => server.closeAll());
process.stdin.on("end", () => process.exit(0));
process.stdin.resume();
