/** A process for linux_only.test.ts: its stream handler throws. */
import { LinuxClock } from "../../hal/linux/clock.ts";
import { LinuxHbaPort } from "../../hal/linux/hba.ts";
import { dialTcp } from "../../hal/linux/tcp_port.ts";

const ignore = { onData() {}, onDrain() {}, onEnd() {}, onClose() {} };
const clock = new LinuxClock();
const port = new LinuxHbaPort({ name: "hba0", listen: "127.0.0.1:0", protocol: "nbd" }, clock);

port.listen(
  () => ({
    ...ignore,
    onData() {
      throw new Error("an invariant is broken");
    },
  }),
  () =>
    dialTcp(
      clock,
      port.address,
      (stream) => {
        stream.handler = ignore;
        stream.write(new Uint8Array(1));
      },
      () => process.exit(0),
    ),
);
// Reached only when the exception was swallowed.
clock.after(10_000, () => process.exit(0));
