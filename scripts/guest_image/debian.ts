/**
 * What the guest takes from Debian: the kernel and the host software, as packages that are downloaded and unpacked into a folder, never
 * installed. They are kept: a second build asks nobody. Their versions are those of the day of the first build.
 */
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/**
 * Debian's general kernel: its cloud kernel has every module of the guest but scsi_dh_alua (CONFIG_SCSI_DH is off there), and a host
 * with ALUA is what the guest stands for.
 */
const kernelPackage = "linux-image-amd64";
const packages = [
  "busybox-static",
  "udev",
  "dmsetup",
  "open-iscsi",
  "multipath-tools",
  "kpartx",
  "sg3-utils",
  "sg3-utils-udev",
  "e2fsprogs",
  // The libraries of these and of Bun; whether that is all of them is checked when the image is made.
  "libacl1",
  "libaio1",
  "libblkid1",
  "libbsd0",
  "libc6",
  "libcap2",
  "libcom-err2",
  "libdevmapper1.02.1",
  "libedit2",
  "libext2fs2",
  "libgcc-s1",
  "libgcrypt20",
  "libgpg-error0",
  "libisns0",
  "libjson-c5",
  "libkmod2",
  "liblz4-1",
  "liblzma5",
  "libmd0",
  "libmount1",
  "libopeniscsiusr",
  "libpcre2-8-0",
  "libselinux1",
  "libsgutils2-1.46-2",
  "libss2",
  "libssl3",
  "libsystemd0",
  "libtinfo6",
  "libudev1",
  "liburcu8",
  "libuuid1",
  "libzstd1",
];

/** Whoever builds is told what to do, in one line. */
export class GuestError extends Error {}

/** The folder with the unpacked packages; downloads them first if they are not there. */
export function debianTree(cacheDir: string): string {
  const tree = join(cacheDir, "debian");
  const stamp = join(tree, "packages");
  const wanted = [kernelPackage, ...packages].join("\n");
  if (existsSync(stamp) && readFileSync(stamp, "utf8") === wanted) return tree;
  const fresh = join(cacheDir, `debian.${process.pid}`);
  const downloads = join(fresh, "downloads");
  try {
    mkdirSync(downloads, { recursive: true });
    download(downloads);
    for (const name of readdirSync(downloads)) unpack(join(downloads, name), fresh);
    rmSync(downloads, { recursive: true });
    writeFileSync(join(fresh, "packages"), wanted);
    rmSync(tree, { recursive: true, force: true });
    renameSync(fresh, tree);
  } finally {
    rmSync(fresh, { recursive: true, force: true });
  }
  return tree;
}

function download(folder: string): void {
  if (Bun.which("apt-get") === null)
    throw new GuestError("the guest comes from Debian's packages: there is no apt-get here");
  let failure = tryDownload(folder);
  if (failure !== null && process.getuid?.() === 0) {
    // The package lists may be missing or old.
    spawnSync("apt-get", ["-qq", "update"], { encoding: "utf8" });
    failure = tryDownload(folder);
  }
  if (failure !== null)
    throw new GuestError(
      `the guest's packages cannot be had from Debian (${failure}): with the archive reachable run apt-get update`,
    );
}

/** null when all packages are there, otherwise apt's last word. */
function tryDownload(folder: string): string | null {
  const listed = spawnSync("apt-cache", ["depends", kernelPackage], { encoding: "utf8" });
  const kernel = /Depends: (linux-image-\S+)/.exec(listed.stdout ?? "")?.[1];
  if (kernel === undefined) return `${kernelPackage} is unknown`;
  const args = ["-qq", "download", kernel, ...packages];
  const run = spawnSync("apt-get", args, { cwd: folder, encoding: "utf8" });
  if (run.status === 0) return null;
  return (run.stderr ?? "").trim().split("\n").at(-1) ?? "no message";
}

function unpack(path: string, tree: string): void {
  const run = spawnSync("dpkg-deb", ["--extract", path, tree], { encoding: "utf8" });
  if (run.status !== 0) throw new GuestError(`${path} cannot be unpacked: ${(run.stderr ?? "").trim()}`);
}
