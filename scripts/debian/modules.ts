/**
 * The kernel's modules as its files describe themselves: what each depends on, and the devices it is for.
 *
 * In `depends=`, file names and for `modprobe` the characters `-` and `_` are the same; names here have `_`.
 */
import { readdirSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { BuildError } from "./build_error.ts";

export interface KernelModule {
  readonly name: string;
  /** The file, in the tree. */
  readonly path: string;
  readonly dependencies: readonly string[];
  /** Patterns of devices. */
  readonly aliases: readonly string[];
}

const nameOf = (text: string) => text.replaceAll("-", "_");

/** The wanted modules and all that they depend on, in loading order: each after what it depends on. */
export function modulesInOrder(tree: string, wanted: readonly string[]): KernelModule[] {
  const root = join(tree, "lib/modules");
  const paths = new Map<string, string>();
  for (const path of readdirSync(root, { recursive: true, encoding: "utf8" })) {
    if (path.endsWith(".ko")) paths.set(nameOf(basename(path, ".ko")), join(root, path));
  }
  const ordered = new Map<string, KernelModule>();
  const visit = (wish: string) => {
    const name = nameOf(wish);
    if (ordered.has(name)) return;
    const path = paths.get(name);
    if (path === undefined) throw new BuildError(`Debian's kernel has no module ${name}`);
    const text = readFileSync(path, "latin1");
    const dependencies = infoOf(text, "depends").flatMap((list) => (list === "" ? [] : list.split(",").map(nameOf)));
    for (const dependency of dependencies) visit(dependency);
    ordered.set(name, { name, path, dependencies, aliases: infoOf(text, "alias") });
  };
  for (const name of wanted) visit(name);
  return [...ordered.values()];
}

function infoOf(text: string, key: string): string[] {
  return [...text.matchAll(new RegExp(`(?<=^|\\0)${key}=([^\\0]*)\\0`, "g"))].map(([, value]) => value ?? "");
}
