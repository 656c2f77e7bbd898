/**
 * The third-party programs that prove what we say: real NBD and iSCSI clients, a load generator, a filesystem maker. They come from
 * Debian's packages; as root they are installed when missing.
 */
import { spawnSync } from "node:child_process";

interface Client {
  readonly program: string;
  readonly debianPackage: string;
  /** Installed only for whoever asks for it by name: no test needs it. */
  readonly onRequest?: true;
}

const clients: readonly Client[] = [
  { program: "nbdcopy", debianPackage: "libnbd-bin" },
  { program: "nbdinfo", debianPackage: "libnbd-bin" },
  { program: "nbdfuse", debianPackage: "libnbd-bin" },
  { program: "nbdkit", debianPackage: "nbdkit" },
  { program: "qemu-img", debianPackage: "qemu-utils" },
  { program: "qemu-nbd", debianPackage: "qemu-utils" },
  { program: "qemu-io", debianPackage: "qemu-utils" },
  { program: "qemu-storage-daemon", debianPackage: "qemu-system-common" },
  { program: "qemu-system-x86_64", debianPackage: "qemu-system-x86" },
  { program: "ip", debianPackage: "iproute2" },
  { program: "cpio", debianPackage: "cpio" },
  { program: "fio", debianPackage: "fio" },
  { program: "iscsi-ls", debianPackage: "libiscsi-bin" },
  { program: "iscsi-test-cu", debianPackage: "libiscsi-bin" },
  { program: "openssl", debianPackage: "openssl" },
  { program: "tgtd", debianPackage: "tgt", onRequest: true },
  { program: "mke2fs", debianPackage: "e2fsprogs" },
  { program: "e2fsck", debianPackage: "e2fsprogs" },
  { program: "mkfs.vfat", debianPackage: "dosfstools" },
  { program: "mcopy", debianPackage: "mtools" },
  { program: "sfdisk", debianPackage: "fdisk" },
  { program: "mksquashfs", debianPackage: "squashfs-tools" },
  { program: "veritysetup", debianPackage: "cryptsetup-bin" },
  { program: "grub-mkimage", debianPackage: "grub-common" },
  { program: "postgres", debianPackage: "postgresql-15" },
  { program: "psql", debianPackage: "postgresql-client-15" },
];
/** Not programs of their own: the block drivers that qemu loads. */
const morePackages = ["qemu-block-extra"];

/** Debian keeps e2fsprogs and PostgreSQL's server where a plain user's PATH does not look. */
export const clientEnvironment: Readonly<Record<string, string | undefined>> = {
  ...process.env,
  PATH: `${process.env["PATH"] ?? "/usr/bin:/bin"}:/usr/sbin:/sbin:/usr/lib/postgresql/15/bin`,
};

function isInstalled(program: string): boolean {
  return Bun.which(program, { PATH: clientEnvironment["PATH"] ?? "" }) !== null;
}

export interface MissingClient {
  readonly program: string;
  /** One line: what to do. */
  readonly text: string;
}

/** Installs what is missing if it can; returns what is missing still. `wanted` null: all that tests need. */
export function ensureClients(say: (text: string) => void, wanted: readonly string[] | null = null): MissingClient[] {
  const needed = clients.filter(({ program, onRequest }) =>
    wanted === null ? onRequest !== true : wanted.includes(program),
  );
  const missing = () => needed.filter(({ program }) => !isInstalled(program));
  if (missing().length === 0) return [];
  const packages = [...new Set(missing().map(({ debianPackage }) => debianPackage))];
  if (packages.includes("qemu-utils")) packages.push(...morePackages);
  const why = install(packages, say);
  return missing().map(({ program, debianPackage }) => ({
    program,
    text: `${program} is missing (${why ?? "still, after the installation"}): apt-get install ${debianPackage}`,
  }));
}

/** null when apt-get said it is done, otherwise why not. */
function install(packages: readonly string[], say: (text: string) => void): string | null {
  if (Bun.which("apt-get") === null) return "there is no apt-get here";
  if (process.getuid?.() !== 0) return "not root, so it cannot be installed";
  say(`installing ${packages.join(" ")} ...`);
  const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
  const apt = (...args: string[]) => spawnSync("apt-get", ["-qq", ...args], { env, encoding: "utf8" });
  const wanted = ["install", "-y", "--no-install-recommends", ...packages];
  let run = apt(...wanted);
  if (run.status !== 0) {
    // The package lists may be missing or old.
    apt("update");
    run = apt(...wanted);
  }
  if (run.status === 0) return null;
  return `apt-get failed: ${(run.stderr ?? "").trim().split("\n").at(-1) ?? "no message"}`;
}
