/**
 * Filesystems on LUNs, here: FUSE files and loop devices need rights that a sandbox may withhold, and must not outlive a test.
 *
 * Everything is mounted in a mount namespace of the test's own: what the test does not take down itself, killed or not, goes with its
 * last process, and the loop devices are of the kind that clears itself when it is unmounted.
 */
import { spawn } from "node:child_process";
import { accessSync, constants, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { clientEnvironment } from "../../../scripts/clients.ts";
import { waitUntil } from "../../../scripts/lab_site/wait.ts";
import { run, runOk } from "./clients.ts";

const insideMark = "GOLDCOPY_IN_MOUNT_NAMESPACE";
const namespace = ["unshare", "--mount", "--propagation", "private"] as const;
const umountLimitMs = 20_000;

/** One line that says why nothing can be mounted here; null: it can. */
export async function whyNoMounts(): Promise<string | null> {
  if (isInside()) return null;
  if (process.getuid?.() !== 0) return "not root";
  for (const device of ["/dev/fuse", "/dev/loop-control"]) {
    try {
      accessSync(device, constants.R_OK | constants.W_OK);
    } catch (error) {
      return `${device}: ${(error as Error).message}`;
    }
  }
  // The devices may be there and mounting forbidden all the same: only a try tells.
  const folder = mkdtempSync(join(tmpdir(), "goldcopy-mount-"));
  try {
    const script = 'cd "$1" && truncate -s 4M disk && mkfs.ext4 -q disk && mount -o loop disk .';
    const [program, ...args] = [...namespace, "sh", "-c", script, "sh", folder];
    const tried = await run(program!, args);
    return tried.code === 0 ? null : `mounting fails: ${tried.stderr.trim().split("\n").at(-1) ?? "no message"}`;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

export function isInside(): boolean {
  return process.env[insideMark] === "1";
}

/** Runs the test file in a mount namespace of its own; resolves with its exit code. */
export function againInside(file: string): Promise<number> {
  const [program, ...args] = [...namespace, process.execPath, file];
  const child = spawn(program!, args, { stdio: "inherit", env: { ...clientEnvironment, [insideMark]: "1" } });
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("exit", (code) => resolve(code ?? 1));
  });
}

export async function makeExt4(file: string): Promise<void> {
  await runOk("mkfs.ext4", ["-q", "-F", file]);
}

/** Through a loop device that clears itself. */
export async function mountExt4(file: string, folder: string): Promise<void> {
  mkdirSync(folder, { recursive: true });
  await runOk("mount", ["-t", "ext4", "-o", "loop", file, folder]);
}

/** A mount whose device has died can be busy for a moment: the kernel is still giving up what was under way. */
export async function unmount(place: string): Promise<void> {
  let last = "";
  const done = await waitUntil(umountLimitMs, 50, async () => {
    const ran = await run("umount", [place]);
    last = ran.stderr.trim();
    return ran.code === 0 || /not mounted|no mount point/.test(last) ? true : null;
  });
  if (done === null) throw new Error(`umount ${place}: ${last}`);
}

/** Replays the journal as a host does, by mounting, and then has the filesystem checked without a repair. */
export async function replayAndCheck(file: string, folder: string): Promise<void> {
  await mountExt4(file, folder);
  await unmount(folder);
  await runOk("fsck.ext4", ["-fn", file]);
}
