/** An update bundle out of what a slot holds, signed with the development key: what images accept unless they are built with others. */
import { machineName } from "../../../images/recipe.ts";
import { developmentPrivateKey, makeBundle, readPrivateKey } from "../../../scripts/image_build/bundle.ts";
import type { Release } from "../../../scripts/image_build/release.ts";
import type { Slot } from "../../../scripts/image_build/slot.ts";

export function developmentBundle(
  path: string,
  slot: Pick<Slot, "kernel" | "initrd" | "root" | "rootHash" | "rootBlocks">,
  { version, commit, counter }: Release,
): void {
  const { kernel, initrd, root, rootHash, rootBlocks } = slot;
  const about = { version, commit, machine: machineName, minimum: "0.1.0", counter, rootHash, rootBlocks };
  makeBundle(path, { vmlinuz: kernel, initrd, root }, about, readPrivateKey(developmentPrivateKey));
}
