/** The service addresses of both HALs under the compliance suite. */
import { spawnSync } from "node:child_process";
import type { Hal } from "../../hal/api/hal.ts";
import { LinuxClock } from "../../hal/linux/clock.ts";
import { LinuxServiceAddress } from "../../hal/linux/service_address.ts";
import { World } from "../../hal/mock/world.ts";
import { until } from "./linux_bench.ts";
import { Driver } from "./mock_bench.ts";
import type { ServiceBench } from "./service_suite.ts";

const ips = ["192.0.2.101", "192.0.2.102"] as const;

/** Of the namespace in which the Linux bench runs. */
export const linuxInterface = "v0";

/** Both appliances are on one interface, as two on one machine can be. */
export async function newLinuxServiceBench(): Promise<ServiceBench> {
  const clock = new LinuxClock();
  const opened: LinuxServiceAddress[] = [];
  return {
    until,
    start: (appliance) =>
      ips.map((address) => {
        const service = LinuxServiceAddress.open({ address, interface: linuxInterface }, appliance, clock);
        if (typeof service === "string") throw new Error(service);
        opened.push(service);
        return service;
      }),
    holder(index) {
      const shown = spawnSync("ip", ["-json", "-4", "address", "show", linuxInterface], { encoding: "utf8" }).stdout;
      const found = JSON.parse(shown) as { addr_info?: { local: string; label: string }[] }[];
      const held = found
        .flatMap(({ addr_info = [] }) => addr_info)
        .filter(({ local }) => local === ips[index])
        .map(({ label }) => label);
      if (held.length > 1) throw new Error(`${ips[index]} is there ${held.length} times: ${shown}`);
      return held[0] ?? null;
    },
    async close() {
      for (const service of opened) service.close();
    },
  };
}

export function newMockServiceBench(seed: number): ServiceBench {
  const world = new World({ seed });
  for (const name of ["oak-a", "oak-b"]) {
    world.addAppliance({
      name,
      cache: { sizeBytes: 8192, domain: "battery" },
      shelves: [world.addShelf({ name: "shelf0", slots: [1 << 20] })],
      hbaPorts: [],
      nics: [],
      serviceAddresses: ips,
    });
  }
  const driver = new Driver(world);
  return {
    until: (what, condition) => {
      // Time has to pass for a hold to end, and nothing else happens here.
      world.hostClock.after(10_000, () => {});
      return driver.until(what, condition);
    },
    start(appliance): Hal["serviceAddresses"] {
      const machine = world.appliance(appliance);
      machine.crash();
      return machine.boot().serviceAddresses;
    },
    holder: (index) => world.network.moving.holderOf(ips[index]!),
    async close() {
      world.settle();
    },
  };
}
