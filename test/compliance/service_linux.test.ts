/** The Linux HAL's service addresses, in a network namespace of their own: this file runs itself there. */
import { spawnSync } from "node:child_process";
import { suite } from "uvu";
import { clientEnvironment } from "../../scripts/clients.ts";
import { namespaceTrouble, unshareWords } from "../../scripts/lab_site/namespaces.ts";
import { testUnless } from "../real/support/clients.ts";
import { linuxInterface, newLinuxServiceBench } from "./service_benches.ts";
import { serviceSuite } from "./service_suite.ts";

const mark = "GOLDCOPY_TEST_NAMESPACE";
const trouble = namespaceTrouble();

function runInNamespace(): number {
  const cable = `ip link add ${linuxInterface} type veth peer name v1`;
  const script = `${cable} && ip link set ${linuxInterface} up && ip link set v1 up && exec "$0" "$@"`;
  const [program, ...args] = [...unshareWords(), "sh", "-c", script, process.execPath, import.meta.path];
  return spawnSync(program!, args, { env: { ...clientEnvironment, [mark]: "1" }, stdio: "inherit" }).status ?? 1;
}

if (process.env[mark] === "1") serviceSuite("linux", newLinuxServiceBench);
else if (trouble === null) process.exitCode = runInNamespace();
else {
  const test = suite("linux: service addresses");
  testUnless(test, trouble, "all of them", async () => {});
  test.run();
}
