/**
 * The guest with a shelf of its own and the firmware: what it has more than `image.ts` says is a second archive behind the first one, which the
 * kernel unpacks over it. Made for each run, in the folder that is named: it holds this moment's firmware.
 */
import { chmodSync, copyFileSync, createReadStream, createWriteStream, mkdirSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { pipeline } from "node:stream/promises";
import { BuildError } from "../debian/build_error.ts";
import { packInitramfs } from "../debian/initramfs.ts";
import { librariesOf } from "../debian/libraries.ts";
import { modulesInOrder } from "../debian/modules.ts";
import { debianTree } from "../debian/packages.ts";
import { putBundles } from "../image_build/root.ts";
import { repositoryRoot } from "../tools.ts";
import { guestModules, guestPackages } from "./contents.ts";
import { type GuestImage, guestImage } from "./image.ts";

/** The kernel's SCSI target, its disks in files, and iSCSI to it. */
const shelfModules = ["target_core_mod", "target_core_file", "iscsi_target_mod"];
/** Where its programs lie in the guest: the firmware as in an appliance's image, and `programs`. */
export const shelfFolder = "/shelf";

/** `programs`: entry points in the repository, each bundled into one file, which is called by its name with `.js`. */
export async function shelfGuestImage(dir: string, programs: readonly string[]): Promise<GuestImage> {
  const cacheDir = join(repositoryRoot, ".cache/guest");
  const base = guestImage(cacheDir);
  const tree = debianTree(cacheDir, guestPackages);
  const root = join(dir, "shelf.root");
  const part = join(dir, "shelf.cpio");
  const initramfs = join(dir, "guest.cpio");
  try {
    await fill(root, tree, programs);
    packInitramfs(root, part);
    await pipeline(createReadStream(base.initramfs), createWriteStream(initramfs));
    await pipeline(createReadStream(part), createWriteStream(initramfs, { flags: "a" }));
  } finally {
    rmSync(root, { recursive: true, force: true });
    rmSync(part, { force: true });
  }
  return { kernel: base.kernel, initramfs };
}

async function fill(root: string, tree: string, programs: readonly string[]): Promise<void> {
  const put = (path: string) => {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    copyFileSync(join(tree, path), join(root, path));
  };
  const folder = join(root, shelfFolder);
  mkdirSync(join(folder, "modules"), { recursive: true });
  const there = new Set(modulesInOrder(tree, guestModules).map(({ name }) => name));
  const wanted = modulesInOrder(tree, shelfModules).filter(({ name }) => !there.has(name));
  for (const [index, { path }] of wanted.entries())
    copyFileSync(path, join(folder, "modules", `${String(index).padStart(2, "0")}.ko`));
  copyFileSync(join(import.meta.dir, "shelf/begin"), join(folder, "begin"));
  chmodSync(join(folder, "begin"), 0o755);
  const executables = [join(tree, "usr/bin/sg_persist"), ...(await putBundles(folder))];
  put("usr/bin/sg_persist");
  for (const path of new Set(executables.flatMap((executable) => librariesOf(executable, tree)))) put(path);
  for (const program of programs) await putProgram(folder, program);
}

async function putProgram(folder: string, program: string): Promise<void> {
  const entry = `${program.split("/").at(-1)?.replace(/\.ts$/, "") ?? ""}.js`;
  const built = await Bun.build({
    entrypoints: [join(repositoryRoot, program)],
    outdir: folder,
    target: "bun",
    naming: { entry, asset: "[name].[ext]" },
    throw: false,
  });
  if (!built.success) throw new BuildError(`${program} cannot be bundled:\n${built.logs.join("\n")}`);
}
