/** Builds the image, step by step, and the manifest beside it. */
import { mkdirSync, mkdtempSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { imagePackages, machineName } from "../../images/recipe.ts";
import { build as buildProtocol } from "../build.ts";
import { ensureClients } from "../clients.ts";
import { BuildError } from "../debian/build_error.ts";
import { debianTree, packageVersions } from "../debian/packages.ts";
import { repositoryRoot } from "../tools.ts";
import { makeDisk } from "./disk.ts";
import { makeOva, makeQcow2, sha256Of } from "./formats.ts";
import { releaseHere } from "./release.ts";
import { developmentKey, makeSlot } from "./slot.ts";

export const formats = ["raw", "qcow2", "ova"] as const;
export type Format = (typeof formats)[number];

/** Beside the image, as `goldcopy-VERSION.json`. */
export interface Manifest {
  readonly version: string;
  readonly commit: string;
  /** Of the dm-verity tree over the root: the image's identity. */
  readonly rootHash: string;
  /** What the kernel's command line has to name to start this root. */
  readonly words: string;
  readonly rootBytes: number;
  /** Of the root without its tree, 4,096 bytes each. */
  readonly rootBlocks: number;
  /** What updates compare: see docs/updates.md. */
  readonly counter: number;
  readonly machine: string;
  /** Whose signatures it accepts, by name. */
  readonly updateKeys: readonly string[];
  readonly bun: string;
  readonly files: readonly { readonly name: string; readonly bytes: number; readonly sha256: string }[];
  /** `NAME VERSION` of Debian's packages. */
  readonly packages: readonly string[];
}

/** What building needs of this machine; `scripts/clients.ts` knows the packages. */
export const imagePrograms = [
  "cpio",
  "grub-mkimage",
  "mcopy",
  "mke2fs",
  "mkfs.vfat",
  "mksquashfs",
  "qemu-img",
  "sfdisk",
  "veritysetup",
];
export const defaultOut = join(repositoryRoot, ".cache/image");

export interface Built {
  readonly manifest: Manifest;
  readonly dir: string;
  /** The image in this format; null: it was not asked for. */
  path(format: Format): string | null;
}

/** Throws a `BuildError` that says what to do. */
export async function buildImage(wanted: {
  readonly out: string;
  readonly formats: readonly Format[];
  /** PEM files; the development key unless given. */
  readonly updateKeys?: readonly string[];
  readonly say: (text: string) => void;
}): Promise<Built> {
  const { out, say } = wanted;
  const missing = ensureClients(say, imagePrograms);
  if (missing.length > 0) throw new BuildError(missing.map(({ text }) => text).join("\n"));
  mkdirSync(out, { recursive: true });
  mkdirSync(defaultOut, { recursive: true });
  buildProtocol();
  const release = releaseHere();
  say(`goldcopy ${release.name}`);
  say("packages ...");
  const tree = debianTree(defaultOut, imagePackages);
  const work = mkdtempSync(join(out, "work-"));
  try {
    say("root, verity tree, kernel and initrd ...");
    const updateKeys = wanted.updateKeys ?? [developmentKey];
    const slot = await makeSlot(work, tree, release, updateKeys);
    say("disk ...");
    const raw = join(work, `goldcopy-${release.version}.raw`);
    makeDisk(work, raw, { tree, slot, epoch: release.epoch });
    const made = new Map<Format, string>([["raw", raw]]);
    for (const format of wanted.formats.filter((format) => format !== "raw")) {
      say(`${format} ...`);
      const path = join(work, `goldcopy-${release.version}.${format}`);
      if (format === "qcow2") makeQcow2(raw, path, release);
      else makeOva(work, raw, path, release);
      made.set(format, path);
    }
    const kept = wanted.formats.map((format) => ({ format, path: made.get(format) ?? raw }));
    const manifest: Manifest = {
      version: release.version,
      commit: release.commit,
      rootHash: slot.rootHash,
      words: slot.words,
      rootBytes: statSync(slot.root).size,
      rootBlocks: slot.rootBlocks,
      counter: release.counter,
      machine: machineName,
      updateKeys: updateKeys.map((path) => basename(path, ".pem")),
      bun: Bun.version,
      files: kept.map(({ path }) => ({ name: basename(path), bytes: statSync(path).size, sha256: sha256Of(path) })),
      packages: packageVersions(tree),
    };
    for (const { path } of kept) renameSync(path, join(out, basename(path)));
    const manifestPath = join(work, `goldcopy-${release.version}.json`);
    writeFileSync(manifestPath, `${JSON.stringify(manifest, null, 2)}\n`);
    renameSync(manifestPath, join(out, basename(manifestPath)));
    const paths = new Map(kept.map(({ format, path }) => [format, join(out, basename(path))]));
    return { manifest, dir: out, path: (format) => paths.get(format) ?? null };
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}
