/** The fence of a simulated disk under the compliance suite. */
import type { MockAppliance } from "../../hal/mock/appliance.ts";
import { World } from "../../hal/mock/world.ts";
import type { FenceBench, FencedAppliance, FencedDisk } from "./fence_suite.ts";
import { Driver } from "./mock_bench.ts";

export function newMockFenceBench(seed: number): FenceBench {
  const world = new World({ seed });
  const driver = new Driver(world);
  const shelf = world.addShelf({ name: "shelf0", fencing: "atomic", slots: [1 << 20] });
  const add = (name: FencedAppliance) =>
    world.addAppliance({
      name,
      cache: { sizeBytes: 65536, domain: "battery" },
      shelves: [shelf],
      hbaPorts: [],
      nics: [],
    });
  const appliances: Record<FencedAppliance, MockAppliance> = { "oak-a": add("oak-a"), "oak-b": add("oak-b") };
  const booted = new Set<FencedAppliance>();
  return {
    async boot(name) {
      world.settle();
      if (booted.has(name)) appliances[name].crash();
      booted.add(name);
      return appliances[name].boot().shelves[0]!.disks[0]! as FencedDisk;
    },
    setDiskFault(_, on) {
      shelf.disk(0).isAbsent = on;
    },
    until: (what, condition) => driver.until(what, condition),
    async close() {
      world.settle();
    },
  };
}
