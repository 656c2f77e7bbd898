/**
 * Debian's packages, downloaded and unpacked into a folder, never installed. They are kept: a second build asks nobody. Their versions
 * are those of the day of the first build; removing the folder gets new ones.
 */
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { BuildError } from "./build_error.ts";

export interface PackageSet {
  /** What it is for, in messages: "the guest". */
  readonly user: string;
  /** A kernel's metapackage: what it depends on is taken. null: no kernel. */
  readonly kernel: string | null;
  readonly packages: readonly string[];
}

/** In the folder: the wanted names, and the versions that came. */
const stampName = "packages";
const versionsName = "versions";

/** The folder with the unpacked packages; downloads them first if they are not there. */
export function debianTree(cacheDir: string, set: PackageSet): string {
  const tree = join(cacheDir, "debian");
  const stamp = join(tree, stampName);
  const wanted = [set.kernel ?? "no kernel", ...set.packages].join("\n");
  const isThere = () => existsSync(stamp) && readFileSync(stamp, "utf8") === wanted;
  if (isThere()) return tree;
  const fresh = join(cacheDir, `debian.${process.pid}`);
  const downloads = join(fresh, "downloads");
  try {
    mkdirSync(downloads, { recursive: true });
    download(downloads, set);
    const files = readdirSync(downloads).sort();
    for (const name of files) unpack(join(downloads, name), fresh);
    rmSync(downloads, { recursive: true });
    writeFileSync(join(fresh, versionsName), files.map(versionOf).join("\n"));
    writeFileSync(join(fresh, stampName), wanted);
    // Somebody else may have been quicker, and be using it.
    if (isThere()) return tree;
    rmSync(tree, { recursive: true, force: true });
    renameSync(fresh, tree);
  } finally {
    rmSync(fresh, { recursive: true, force: true });
  }
  return tree;
}

/** `NAME VERSION` of each package in the tree, sorted. */
export function packageVersions(tree: string): string[] {
  return readFileSync(join(tree, versionsName), "utf8").split("\n");
}

/** `NAME_VERSION_ARCHITECTURE.deb`, where a colon is written as %3a. */
function versionOf(fileName: string): string {
  const [name, version] = fileName.split("_");
  return `${name} ${decodeURIComponent(version ?? "")}`;
}

function download(folder: string, set: PackageSet): void {
  if (Bun.which("apt-get") === null)
    throw new BuildError(`${set.user} comes from Debian's packages: there is no apt-get here`);
  let failure = tryDownload(folder, set);
  if (failure !== null && process.getuid?.() === 0) {
    // The package lists may be missing or old.
    spawnSync("apt-get", ["-qq", "update"], { encoding: "utf8" });
    failure = tryDownload(folder, set);
  }
  if (failure !== null)
    throw new BuildError(
      `the packages of ${set.user} cannot be had from Debian (${failure}): with the archive reachable run apt-get update`,
    );
}

/** null when all packages are there, otherwise apt's last word. */
function tryDownload(folder: string, { kernel, packages }: PackageSet): string | null {
  const wanted = [...packages];
  if (kernel !== null) {
    const listed = spawnSync("apt-cache", ["depends", kernel], { encoding: "utf8" });
    const image = /Depends: (linux-image-\S+)/.exec(listed.stdout ?? "")?.[1];
    if (image === undefined) return `${kernel} is unknown`;
    wanted.push(image);
  }
  const run = spawnSync("apt-get", ["-qq", "download", ...wanted], { cwd: folder, encoding: "utf8" });
  if (run.status === 0) return null;
  return (run.stderr ?? "").trim().split("\n").at(-1) ?? "no message";
}

function unpack(path: string, tree: string): void {
  const run = spawnSync("dpkg-deb", ["--extract", path, tree], { encoding: "utf8" });
  if (run.status !== 0) throw new BuildError(`${path} cannot be unpacked: ${(run.stderr ?? "").trim()}`);
}

/** The only kernel in the tree. */
export function kernelOf(tree: string): string {
  const name = readdirSync(join(tree, "boot")).find((candidate) => candidate.startsWith("vmlinuz-"));
  if (name === undefined) throw new BuildError("Debian's kernel package has no kernel");
  return join(tree, "boot", name);
}
