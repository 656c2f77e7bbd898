import { newMockFenceBench } from "./fence_mock.ts";
import { fenceSuite } from "./fence_suite.ts";
import { halSuite } from "./hal_suite.ts";
import { newMockBench } from "./mock_bench.ts";
import { newMockPowerBench } from "./power_benches.ts";
import { powerSuite } from "./power_suite.ts";
import { newMockServiceBench } from "./service_benches.ts";
import { serviceSuite } from "./service_suite.ts";

// Every test gets a world of its own, and the same one in every run.
let seed = 0;
halSuite("mock", async () => newMockBench(++seed));
powerSuite("mock", async () => newMockPowerBench(++seed));
serviceSuite("mock", async () => newMockServiceBench(++seed));
fenceSuite("mock", async () => newMockFenceBench(++seed));
