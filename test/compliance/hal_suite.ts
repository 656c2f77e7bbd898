/** Everything that hal/api promises, as one suite that every HAL must pass. */
import type { HalBench } from "./bench.ts";
import { cacheSuite } from "./cache_suite.ts";
import { clockSuite } from "./clock_suite.ts";
import { diskSuite } from "./disk_suite.ts";
import { heartbeatSuite } from "./heartbeat_suite.ts";
import { nicSuite } from "./nic_suite.ts";
import { portSuite } from "./port_suite.ts";
import { streamSuite } from "./stream_suite.ts";

/** Declares and runs the suites; `newBench` is called before each test and its bench closed after it. */
export function halSuite(name: string, newBench: () => Promise<HalBench>): void {
  clockSuite(name, newBench);
  streamSuite(name, "hba", newBench);
  streamSuite(name, "nic", newBench);
  portSuite(name, newBench);
  nicSuite(name, newBench);
  heartbeatSuite(name, newBench);
  cacheSuite(name, "battery", newBench);
  cacheSuite(name, "flush", newBench);
  diskSuite(name, newBench);
}
