/** A NoCloud seed: a folder's files on a FAT disk labelled CIDATA. */
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { mebibyte } from "../../images/recipe.ts";
import { BuildError } from "../debian/build_error.ts";
import { runProgram } from "./program.ts";
import { makeEmpty } from "./slot.ts";

export const seedPrograms = ["mkfs.vfat", "mcopy"] as const;
const seedNames = ["goldcopy.toml", "user-data", "meta-data", "network-config"];

/** `folder` holds some of the files that a seed may have. */
export function makeSeed(folder: string, path: string): void {
  const names = readdirSync(folder).filter((name) => seedNames.includes(name));
  if (names.length === 0)
    throw new BuildError(`${folder} is no seed: it has none of ${seedNames.join(", ")}; write its goldcopy.toml first`);
  makeEmpty(path, mebibyte);
  runProgram("mkfs.vfat", ["-n", "CIDATA", path], 0);
  runProgram("mcopy", ["-i", path, ...names.map((name) => join(folder, name)), "::"], 0);
}
