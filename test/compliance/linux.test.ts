import { halSuite } from "./hal_suite.ts";
import { newLinuxBench } from "./linux_bench.ts";
import { newLinuxPowerBench } from "./power_benches.ts";
import { powerSuite } from "./power_suite.ts";

halSuite("linux", newLinuxBench);
powerSuite("linux", newLinuxPowerBench);
