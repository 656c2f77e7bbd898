/**
 * Makes the guest: a Linux host as small as can be, as a kernel and an initramfs for QEMU. In it are Debian's kernel, udev, open-iscsi,
 * multipath-tools and e2fsprogs as they are, and an agent of ours on this repository's Bun, which does what it is told over a virtio
 * port (`agent/`).
 *
 * The settings of the two daemons are those that `docs/multipath.md` recommends, word for word.
 */
import { createHash } from "node:crypto";
import {
  chmodSync,
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { ensureClients } from "../clients.ts";
import { BuildError } from "../debian/build_error.ts";
import { packInitramfs } from "../debian/initramfs.ts";
import { librariesOf, linker } from "../debian/libraries.ts";
import { modulesInOrder } from "../debian/modules.ts";
import { debianTree, kernelOf } from "../debian/packages.ts";
import { repositoryRoot } from "../tools.ts";
import { guestModules, guestPackages } from "./contents.ts";

export interface GuestImage {
  readonly kernel: string;
  readonly initramfs: string;
}

const ownDir = import.meta.dir;
const sharedDir = join(repositoryRoot, "scripts/debian");
const docs = join(repositoryRoot, "docs/multipath.md");
export const guestInitiator = "iqn.2026-11.org.goldcopy.test:guest";

const programs = [
  "sbin/iscsid",
  "sbin/iscsiadm",
  "sbin/multipathd",
  "sbin/multipath",
  "sbin/dmsetup",
  "sbin/kpartx",
  "sbin/mke2fs",
  "sbin/e2fsck",
  "bin/udevadm",
  "lib/udev/scsi_id",
  "usr/bin/sg_inq",
  "usr/bin/sg_rtpg",
  "bin/busybox",
];
/** Without those for hardware that the guest does not have. */
const udevRules = [
  "50-udev-default",
  "55-dm",
  "55-scsi-sg3_id",
  "56-dm-mpath",
  "56-dm-parts",
  "58-scsi-sg3_symlink",
  "60-block",
  "60-kpartx",
  "60-multipath",
  "60-persistent-storage",
  "60-persistent-storage-dm",
  "95-dm-notify",
];
/** Loaded while running, so that no program's list shows them. multipathd ends its threads with the second. */
const plugins = "lib/multipath";
const unlisted = [plugins, "lib/x86_64-linux-gnu/libgcc_s.so.1"];
/** Makes it if its inputs are not those of the last one. Throws a `BuildError` that says what to do. */
export function guestImage(cacheDir = join(repositoryRoot, ".cache/guest")): GuestImage {
  const missing = ensureClients(() => {}, ["cpio"]);
  if (missing.length > 0) throw new BuildError(missing.map(({ text }) => text).join("; "));
  mkdirSync(cacheDir, { recursive: true });
  const tree = debianTree(cacheDir, guestPackages);
  const image = { kernel: kernelOf(tree), initramfs: join(cacheDir, `${digestOf(tree)}.cpio`) };
  if (existsSync(image.initramfs)) return image;
  const root = join(cacheDir, `root.${process.pid}`);
  try {
    fill(root, tree);
    for (const name of readdirSync(cacheDir)) if (name.endsWith(".cpio")) rmSync(join(cacheDir, name));
    packInitramfs(root, image.initramfs);
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
  return image;
}

/** Of everything that goes into it. The unpacked packages and Bun stand for their contents by their dates. */
function digestOf(tree: string): string {
  const hash = createHash("sha256");
  const shared = readdirSync(sharedDir)
    .sort()
    .map((name) => join(sharedDir, name));
  const ours = readdirSync(ownDir, { recursive: true, encoding: "utf8" }).map((path) => join(ownDir, path));
  for (const path of [...ours.filter((path) => statSync(path).isFile()).sort(), ...shared, docs])
    hash.update(readFileSync(path));
  for (const path of [tree, process.execPath]) hash.update(`${path} ${statSync(path).mtimeMs}\0`);
  return hash.digest("hex").slice(0, 16);
}

function fill(root: string, tree: string): void {
  const put = (path: string, from = join(tree, path)) => {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    cpSync(from, join(root, path), { recursive: true, dereference: true });
  };
  for (const path of ["proc", "sys", "dev", "run", "tmp", "mnt", "busybox", "modules", "var/lib"])
    mkdirSync(join(root, path), { recursive: true });
  for (const path of [...programs, ...unlisted, linker]) put(path);
  for (const rule of udevRules) put(`lib/udev/rules.d/${rule}.rules`);
  put("etc/mke2fs.conf");
  put("bin/bun", process.execPath);
  const linked = [...programs, ...readdirSync(join(tree, plugins)).map((name) => join(plugins, name))];
  const executables = [
    ...linked.filter((path) => path !== "bin/busybox").map((path) => join(tree, path)),
    process.execPath,
  ];
  for (const path of new Set(executables.flatMap((executable) => librariesOf(executable, tree)))) put(path);

  const modules = modulesInOrder(tree, guestModules).map(({ path }, index) => ({
    path,
    name: `${String(index).padStart(2, "0")}.ko`,
  }));
  for (const { path, name } of modules) put(`modules/${name}`, path);

  for (const name of ["sh", "rm"]) symlinkSync("busybox", join(root, "bin", name));
  for (const [name, program] of [
    ["mkfs.ext4", "mke2fs"],
    ["fsck.ext4", "e2fsck"],
  ] as const)
    symlinkSync(program, join(root, "sbin", name));
  const write = (path: string, text: string) => {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), text);
  };
  write("etc/passwd", "root:x:0:0:root:/:/bin/sh\n");
  // The groups that udev's default rules name.
  const groups = [
    "root",
    "tty",
    "dialout",
    "kmem",
    "input",
    "video",
    "render",
    "sgx",
    "audio",
    "lp",
    "disk",
    "cdrom",
    "tape",
    "kvm",
  ];
  write("etc/group", groups.map((name, id) => `${name}:x:${id}:\n`).join(""));
  write("etc/iscsi/initiatorname.iscsi", `InitiatorName=${guestInitiator}\n`);
  write("etc/iscsi/iscsid.conf", recommended("iscsid.conf"));
  write("etc/multipath.conf", recommended("multipath.conf"));
  cpSync(join(ownDir, "agent"), join(root, "agent"), { recursive: true });
  copyFileSync(join(ownDir, "init"), join(root, "init"));
  chmodSync(join(root, "init"), 0o755);
}

/** The block of the page whose first line names the file. */
function recommended(name: string): string {
  const block = new RegExp(`\`\`\`[a-z]*\\n(# /etc/\\S*${name.replaceAll(".", "\\.")}\\n[^\`]*)\`\`\``).exec(
    readFileSync(docs, "utf8"),
  );
  if (block?.[1] === undefined) throw new BuildError(`${docs} shows no ${name}`);
  return block[1];
}
