/**
 * The firmware as a Debian package, for an ordinary server: Bun, the bundled programs and a systemd unit. The same commit gives the same
 * bytes. `images/debian/` has what is in it beside the programs.
 */
import { chmodSync, copyFileSync, cpSync, mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { build as buildProtocol } from "../build.ts";
import { ensureClients } from "../clients.ts";
import { BuildError } from "../debian/build_error.ts";
import { repositoryRoot } from "../tools.ts";
import { runProgram } from "./program.ts";
import { type Release, releaseHere } from "./release.ts";
import { libraryDir, putBundles } from "./root.ts";

export interface BuiltPackage {
  readonly path: string;
  readonly release: Release;
}

const recipe = join(repositoryRoot, "images/debian");
/** Where a file of the recipe, or of the repository, goes. */
const files = [
  { from: join(recipe, "goldcopy"), to: "usr/bin/goldcopy", mode: 0o755 },
  { from: join(recipe, "goldcopy.service"), to: "lib/systemd/system/goldcopy.service", mode: 0o644 },
  { from: join(recipe, "README"), to: "usr/share/doc/goldcopy/README", mode: 0o644 },
  { from: join(repositoryRoot, "images/appliance.env"), to: `${libraryDir}/appliance.env`, mode: 0o644 },
  { from: process.execPath, to: `${libraryDir}/bun`, mode: 0o755 },
  { from: join(recipe, "postinst"), to: "DEBIAN/postinst", mode: 0o755 },
  { from: join(recipe, "prerm"), to: "DEBIAN/prerm", mode: 0o755 },
] as const;

/** Into the folder `out`. Throws a `BuildError` that says what to do. */
export async function buildPackage(out: string, say: (text: string) => void): Promise<BuiltPackage> {
  const missing = ensureClients(say, ["dpkg-deb"]);
  if (missing.length > 0) throw new BuildError(missing.map(({ text }) => text).join("\n"));
  mkdirSync(out, { recursive: true });
  buildProtocol();
  const release = releaseHere();
  const work = mkdtempSync(join(out, "work-"));
  try {
    const root = join(work, "root");
    await fill(root, release);
    const name = `goldcopy_${release.version}-${release.counter}_amd64.deb`;
    runProgram("find", [root, "-exec", "touch", "--no-dereference", `--date=@${release.epoch}`, "{}", "+"], 0);
    runProgram("dpkg-deb", ["--root-owner-group", "-Zzstd", "--build", root, join(work, name)], release.epoch);
    const path = join(out, name);
    renameSync(join(work, name), path);
    return { path, release };
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

async function fill(root: string, release: Release): Promise<void> {
  mkdirSync(join(root, libraryDir), { recursive: true });
  await putBundles(join(root, libraryDir));
  for (const { from, to, mode } of files) {
    mkdirSync(dirname(join(root, to)), { recursive: true });
    copyFileSync(from, join(root, to));
    chmodSync(join(root, to), mode);
  }
  mkdirSync(join(root, "etc/goldcopy"), { recursive: true });
  const documents = join(root, "usr/share/doc/goldcopy");
  cpSync(join(repositoryRoot, "images/profiles"), join(documents, "examples"), { recursive: true });
  writeFileSync(join(documents, "copyright"), copyright());
  writeFileSync(join(root, "DEBIAN/control"), control(release, kibibytesOf(root)));
  runProgram("chmod", ["-R", "u=rwX,go=rX", root], 0);
}

function kibibytesOf(root: string): number {
  return Number(runProgram("du", ["-sk", "--apparent-size", root], 0).split("\t")[0]);
}

/** Bun is linked with glibc alone. */
function control({ version, counter, commit }: Release, kibibytes: number): string {
  return `Package: goldcopy
Version: ${version}-${counter}
Architecture: amd64
Maintainer: Goldcopy <goldcopy@localhost>
Installed-Size: ${kibibytes}
Depends: libc6
Section: admin
Priority: optional
Description: block-replication appliance
 Volumes for hosts over NBD and iSCSI, in a mirrored write log, and a golden
 copy of them at another site. Needs an x86-64-v2 processor.
 .
 Built from commit ${commit}.
`;
}

function copyright(): string {
  return `Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/

Files: *
Copyright: the authors of Goldcopy
License: Apache-2.0

Files: ${libraryDir}/bun
Copyright: the authors of Bun and of its parts (https://bun.sh)
License: MIT and others

License: Apache-2.0
 On Debian systems its text is in /usr/share/common-licenses/Apache-2.0.

License: MIT and others
 As https://bun.sh/docs/project/licensing lists them.
`;
}
