/** The initrd of a slot: what finds the root, and has it verified. */
import { chmodSync, copyFileSync, cpSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { initrdModules, initrdPrograms } from "../../images/recipe.ts";
import { packInitramfs } from "../debian/initramfs.ts";
import { librariesOf, linker } from "../debian/libraries.ts";
import { repositoryRoot } from "../tools.ts";
import { putModules } from "./module_tree.ts";

const compressionLevel = 19;
/** Whom the kernel calls for a module that it misses. */
const kernelsHelper = "sbin/modprobe";

export function makeInitrd(work: string, tree: string, path: string): void {
  const root = join(work, "initrd");
  mkdirSync(join(root, "bin"), { recursive: true });
  const put = (file: string) => {
    mkdirSync(dirname(join(root, file)), { recursive: true });
    cpSync(join(tree, file), join(root, file), { dereference: true });
  };
  for (const file of ["bin/busybox", ...initrdPrograms, linker]) put(file);
  symlinkSync("/bin/busybox", join(root, kernelsHelper));
  const libraries = initrdPrograms.flatMap((program) => librariesOf(join(tree, program), tree));
  for (const file of new Set(libraries)) put(file);
  putModules(root, tree, initrdModules);
  copyFileSync(join(repositoryRoot, "images/initrd/init"), join(root, "init"));
  chmodSync(join(root, "init"), 0o755);
  const packed = join(work, "initrd.cpio");
  packInitramfs(root, packed);
  writeFileSync(path, Bun.zstdCompressSync(new Uint8Array(Bun.mmap(packed)), { level: compressionLevel }));
  rmSync(packed);
}
