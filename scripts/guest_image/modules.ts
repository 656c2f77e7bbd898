/** Which of the kernel's modules the guest loads, and in which order: each after what it depends on, as its `depends=` says. */
import { readdirSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { GuestError } from "./debian.ts";

const wanted = [
  // The machine that QEMU shows.
  "virtio_pci",
  "virtio_net",
  "virtio_console",
  // iSCSI disks.
  "sd_mod",
  "sg",
  "iscsi_tcp",
  // Multipath with ALUA.
  "dm_multipath",
  "dm_service_time",
  "dm_round_robin",
  "scsi_dh_alua",
  // Filesystems. ext4 asks for its checksum by an algorithm's name, which no dependency shows.
  "crc32c_generic",
  "ext4",
];

/** In `depends=`, file names and `modprobe` the two characters are the same. */
const nameOf = (text: string) => text.replaceAll("-", "_");

/** Paths of module files in loading order. */
export function modulesInOrder(tree: string): string[] {
  const root = join(tree, "lib/modules");
  const paths = new Map<string, string>();
  for (const path of readdirSync(root, { recursive: true, encoding: "utf8" })) {
    if (path.endsWith(".ko")) paths.set(nameOf(basename(path, ".ko")), join(root, path));
  }
  const ordered = new Map<string, string>();
  const visit = (name: string) => {
    if (ordered.has(name)) return;
    const path = paths.get(name);
    if (path === undefined) throw new GuestError(`Debian's kernel has no module ${name}`);
    for (const dependency of dependenciesOf(path)) visit(dependency);
    ordered.set(name, path);
  };
  for (const name of wanted) visit(name);
  return [...ordered.values()];
}

function dependenciesOf(path: string): string[] {
  const text = readFileSync(path, "latin1");
  const found = /(?:^|\0)depends=([^\0]*)\0/.exec(text)?.[1] ?? "";
  return found === "" ? [] : found.split(",").map(nameOf);
}
