/**
 * The root of an appliance: busybox, Bun, the bundled firmware and command line, the few programs and libraries that they need, and the
 * scripts of `images/root/`. Read only; what is kept lies on the state partition, at /var.
 */
import { spawnSync } from "node:child_process";
import {
  chmodSync,
  copyFileSync,
  cpSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { readKeyFile } from "../../hal/linux/signature_check.ts";
import { machineName, rootFiles, rootModules, rootPrograms } from "../../images/recipe.ts";
import { BuildError } from "../debian/build_error.ts";
import { librariesOf, linker } from "../debian/libraries.ts";
import { repositoryRoot } from "../tools.ts";
import { putModules } from "./module_tree.ts";
import type { Release } from "./release.ts";

export const libraryDir = "usr/lib/goldcopy";
const images = join(repositoryRoot, "images");

/** What runs on Bun in the appliance, each in one file. Workers are looked for beside the firmware under their sources' names. */
export const bundles = [
  { source: "firmware/main.ts", name: "main.js" },
  { source: "firmware/shell/main.ts", name: "goldcopy.js" },
  { source: "hal/linux/discard_worker.ts", name: "discard_worker.ts" },
  { source: "hal/linux/heartbeat_worker.ts", name: "heartbeat_worker.ts" },
  { source: "hal/linux/scsi_worker.ts", name: "scsi_worker.ts" },
  { source: "images/network_main.ts", name: "network_config.js" },
] as const;

const places = ["bin", "dev", "etc", "lib", "nvram", "proc", "run", "sbin", "sys", "tmp", "usr/bin", "usr/sbin", "var"];

/** `updateKeys`: PEM files; whose signatures the appliance accepts. */
export async function fillRoot(
  root: string,
  tree: string,
  release: Release,
  updateKeys: readonly string[],
): Promise<void> {
  for (const place of places) mkdirSync(join(root, place), { recursive: true });
  const put = (path: string) => {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    cpSync(join(tree, path), join(root, path), { recursive: true, dereference: true });
  };
  putBusybox(root, tree);
  for (const path of [...rootPrograms, ...rootFiles, linker]) put(path);
  copyFileSync(process.execPath, join(root, "usr/bin/bun"));
  chmodSync(join(root, "usr/bin/bun"), 0o755);
  const addOns = await putBundles(join(root, libraryDir));
  const executables = [...rootPrograms.map((path) => join(tree, path)), process.execPath, ...addOns];
  for (const path of new Set(executables.flatMap((executable) => librariesOf(executable, tree)))) put(path);
  putModules(root, tree, rootModules);
  cpSync(join(images, "root"), root, { recursive: true });
  copyFileSync(join(images, "appliance.env"), join(root, libraryDir, "appliance.env"));
  symlinkSync("/run/resolv.conf", join(root, "etc/resolv.conf"));
  putUpdateKeys(root, updateKeys);
  putRelease(root, release);
}

/** Which version it is, for its own scripts and for updates. */
export function putRelease(root: string, { name, version, commit, counter }: Release): void {
  const lines = [
    `NAME=${name}`,
    `VERSION=${version}`,
    `COMMIT=${commit}`,
    `COUNTER=${counter}`,
    `MACHINE=${machineName}`,
  ];
  writeFileSync(join(root, "etc/goldcopy-release"), `${lines.join("\n")}\n`);
}

function putUpdateKeys(root: string, paths: readonly string[]): void {
  const folder = join(root, "etc/goldcopy-update-keys");
  mkdirSync(folder);
  for (const path of paths) {
    const key = readKeyFile(path);
    if ("fault" in key) throw new BuildError(`the update key ${path}: ${key.fault}`);
    copyFileSync(path, join(folder, `${key.name}.pem`));
  }
}

/** Every applet under its name, where a program of the packages has not taken it. */
export function putBusybox(root: string, tree: string): void {
  const busybox = join(tree, "bin/busybox");
  copyFileSync(busybox, join(root, "bin/busybox"));
  chmodSync(join(root, "bin/busybox"), 0o755);
  const listed = spawnSync(busybox, ["--list-full"], { encoding: "utf8" });
  if (listed.status !== 0) throw new BuildError(`busybox does not run here: ${listed.stderr}`);
  const taken = new Set<string>([...rootPrograms, "bin/busybox"].map((path) => path.split("/").at(-1) ?? ""));
  for (const path of listed.stdout.trim().split("\n")) {
    if (taken.has(path.split("/").at(-1) ?? "")) continue;
    mkdirSync(dirname(join(root, path)), { recursive: true });
    symlinkSync("/bin/busybox", join(root, path));
  }
}

/** The paths of the native add-ons that came with them. */
export async function putBundles(dir: string): Promise<string[]> {
  for (const { source, name } of bundles) {
    const built = await Bun.build({
      entrypoints: [join(repositoryRoot, source)],
      outdir: dir,
      target: "bun",
      // Readable names in stack traces; no comments, which would name folders of this machine.
      minify: { whitespace: true, syntax: true },
      naming: { entry: name, asset: "[name].[ext]" },
      throw: false,
    });
    if (!built.success) throw new BuildError(`${source} cannot be bundled:\n${built.logs.join("\n")}`);
    if (readFileSync(join(dir, name), "utf8").includes(repositoryRoot))
      throw new BuildError(`the bundle of ${source} names ${repositoryRoot}: it would differ from folder to folder`);
  }
  return readdirSync(dir)
    .filter((name) => name.endsWith(".node"))
    .map((name) => join(dir, name));
}
