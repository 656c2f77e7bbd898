/** A process that holds a life lock until it is killed: the target of the Linux power port's tests. */
import { LinuxClock } from "../../hal/linux/clock.ts";
import { LifeLock } from "../../hal/linux/life_lock.ts";

const taken = await LifeLock.take(process.argv[2] ?? "", process.argv[3] ?? "", new LinuxClock());
if (typeof taken === "string") {
  console.error(taken);
  process.exit(1);
}
console.log("holding");
setInterval(() => {}, 60_000);
