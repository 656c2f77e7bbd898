/** The kernel's modules as `modprobe` looks for them: the files, what each needs, and which devices each is for. */
import { copyFileSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { modulesInOrder } from "../debian/modules.ts";

/** Into `lib/modules/VERSION` of `root`, with all that the wanted ones need. */
export function putModules(root: string, tree: string, wanted: readonly string[]): void {
  const version = readdirSync(join(tree, "lib/modules"))[0] ?? "";
  const folder = join(root, "lib/modules", version);
  mkdirSync(folder, { recursive: true });
  const modules = modulesInOrder(tree, wanted);
  const files = new Map(modules.map(({ name, path }) => [name, basename(path)]));
  for (const { path } of modules) copyFileSync(path, join(folder, basename(path)));
  const order = modules.map(({ name }) => name);
  const needs = (name: string): string[] =>
    (modules.find((module) => module.name === name)?.dependencies ?? []).flatMap((direct) => [
      direct,
      ...needs(direct),
    ]);
  // `modprobe` loads them from the last to the first.
  const chain = (name: string) => [...new Set(needs(name))].sort((a, b) => order.indexOf(b) - order.indexOf(a));
  const dependencies = modules.map(
    ({ name, path }) =>
      `${basename(path)}:${chain(name)
        .map((needed) => ` ${files.get(needed)}`)
        .join("")}\n`,
  );
  const aliases = modules.flatMap(({ name, aliases }) => aliases.map((alias) => `alias ${alias} ${name}\n`));
  writeFileSync(join(folder, "modules.dep"), dependencies.join(""));
  writeFileSync(join(folder, "modules.alias"), aliases.join(""));
}
