import { diskSuite } from "./disk_suite.ts";
import { halSuite } from "./hal_suite.ts";
import { newLinuxBench } from "./linux_bench.ts";
import { newLinuxPowerBench } from "./power_benches.ts";
import { powerSuite } from "./power_suite.ts";

halSuite("linux", newLinuxBench);
diskSuite("linux, past the page cache", () => newLinuxBench(true));
powerSuite("linux", newLinuxPowerBench);
