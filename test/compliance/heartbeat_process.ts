/**
 * A process that sends heartbeats to the address it is given, from an address that it prints. `hang` on its input: an endless loop.
 * With the word `break` it gives its worker what that cannot use. A crash ends it with 3, as the appliance.
 */
import { LinuxClock } from "../../hal/linux/clock.ts";
import { LinuxHeartbeats } from "../../hal/linux/heartbeats.ts";
import { LinuxNic } from "../../hal/linux/nic.ts";
import { pattern } from "./bench.ts";

process.on("uncaughtException", (error) => {
  console.error(String(error));
  process.exit(3);
});

const [address, word] = process.argv.slice(2);
const nic = new LinuxNic({ appliance: "oak-b", name: "nic0", listen: "127.0.0.1:0", clock: new LinuxClock() });
await new Promise<void>((resolve) =>
  nic.listen(
    () => ({ onData: () => {}, onDrain: () => {}, onEnd: () => {}, onClose: () => {} }),
    () => resolve(),
  ),
);
const heartbeats = new LinuxHeartbeats([nic]);
heartbeats.open({
  nic: "nic0",
  address: address!,
  remote: "oak-a",
  intervalMs: 20,
  sendKey: word === "break" ? (5 as unknown as Uint8Array) : pattern(32, 1),
  hearKey: pattern(32, 2),
});
setInterval(() => heartbeats.turned(), 20);
console.log(nic.address);
for await (const line of console) {
  if (line === "hang") for (;;);
}
