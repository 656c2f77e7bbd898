import { halSuite } from "./hal_suite.ts";
import { newLinuxBench } from "./linux_bench.ts";

halSuite("linux", newLinuxBench);
