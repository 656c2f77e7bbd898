/** An appliance's virtual machine as QEMU's command line: for `scripts/image run` and for tests. */
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { BuildError } from "../debian/build_error.ts";
import { debianTree } from "../debian/packages.ts";
import { repositoryRoot } from "../tools.ts";
import { partitionStarts } from "./disk.ts";
import { runProgram } from "./program.ts";

export const emulator = "qemu-system-x86_64";

export interface Machine {
  readonly image: string;
  /** A seed's disk image. */
  readonly seed: string | null;
  readonly disks: readonly MachineDisk[];
  /** From a port of this machine's loopback to a port of the guest's. */
  readonly forwards: readonly Forward[];
  readonly firmware: "bios" | "uefi";
  /** The kernel is started by QEMU, without a boot loader. null: it is not. */
  readonly direct: DirectBoot | null;
  readonly acceleration: "tcg" | "kvm";
  /** A model of QEMU's. */
  readonly cpu: string;
  readonly cpus: number;
  readonly memoryMib: number;
}

export interface Forward {
  readonly host: number;
  readonly guest: number;
  /** Left out: TCP. */
  readonly protocol?: "tcp" | "udp";
}

export interface MachineDisk {
  readonly file: string;
  readonly serial: string;
  /**
   * Another machine writes it too: past this host's page cache, so that each sees at once what the other has written, and finds no
   * page half written; and QEMU's lock of the file lets both in.
   */
  readonly shared?: boolean;
}

export interface DirectBoot {
  readonly kernel: string;
  readonly initrd: string;
  readonly words: string;
}

export const plainMachine = {
  seed: null,
  disks: [],
  forwards: [],
  firmware: "bios",
  direct: null,
  acceleration: "tcg",
  cpu: "max",
  cpus: 1,
  memoryMib: 1024,
} as const satisfies Omit<Machine, "image">;

const accelerators = { tcg: "tcg,thread=multi", kvm: "kvm" } as const;
const kvmLimitMs = 20_000;

/** Whether QEMU can start a processor with KVM: there are hosts with a /dev/kvm that opens and then fails it. */
export function kvmWorks(): boolean {
  if (!existsSync("/dev/kvm")) return false;
  const words = [
    "-accel",
    "kvm",
    "-cpu",
    "max",
    "-m",
    "64",
    "-nodefaults",
    "-no-user-config",
    "-display",
    "none",
    "-S",
  ];
  const ran = spawnSync(emulator, [...words, "-monitor", "stdio"], { input: "quit\n", timeout: kvmLimitMs });
  return ran.status === 0;
}

/** Without a console: the caller says where `-serial` goes. */
export function machineArguments(machine: Machine): string[] {
  const { image, seed, disks, forwards, firmware, direct, acceleration, cpu, cpus, memoryMib } = machine;
  const args = [
    ...["-accel", accelerators[acceleration]],
    ...["-cpu", cpu],
    ...["-smp", String(cpus), "-m", String(memoryMib), "-nodefaults", "-no-user-config", "-display", "none"],
    ...["-vga", "std"],
    // A kernel that QEMU starts itself has that place.
    ...diskArguments("system", image, direct === null ? ",bootindex=0" : ""),
  ];
  for (const [index, { file, serial, shared = false }] of disks.entries()) {
    const device = `,serial=${serial}${shared ? ",share-rw=on" : ""}`;
    args.push(...diskArguments(`disk${index}`, file, device, shared ? ",cache=none" : ""));
  }
  if (seed !== null) args.push(...diskArguments("seed", seed, "", ",readonly=on"));
  const forwarded = forwards
    .map(({ host, guest, protocol = "tcp" }) => `,hostfwd=${protocol}:127.0.0.1:${host}-:${guest}`)
    .join("");
  args.push("-netdev", `user,id=net0${forwarded}`, "-device", "virtio-net-pci,netdev=net0,romfile=");
  if (firmware === "uefi") args.push("-bios", uefiFirmware());
  if (direct !== null)
    args.push("-kernel", direct.kernel, "-initrd", direct.initrd, "-append", `${directWords} ${direct.words}`);
  return args;
}

/** As in images/boot/grub.cfg. */
const directWords = "console=tty0 console=ttyS0,115200 loglevel=6 panic=10 printk.devkmsg=on cryptomgr.notests";

function diskArguments(id: string, file: string, device: string, more = ""): string[] {
  const format = file.endsWith(".qcow2") ? "qcow2" : "raw";
  // A comma in a name is doubled, or it would end it.
  const name = file.replaceAll(",", ",,");
  return [
    ...["-drive", `if=none,id=${id},file=${name},format=${format},discard=unmap${more}`],
    ...["-device", `virtio-blk-pci,drive=${id}${device}`],
  ];
}

/** Debian's OVMF, unpacked, not installed. */
function uefiFirmware(): string {
  const cache = join(repositoryRoot, ".cache/ovmf");
  mkdirSync(cache, { recursive: true });
  const tree = debianTree(cache, { user: "the UEFI firmware", kernel: null, packages: ["ovmf"] });
  return join(tree, "usr/share/ovmf/OVMF.fd");
}

/** Kernel, initrd and words of slot a, out of a raw image into `dir`. */
export function directBootOf(image: string, dir: string): DirectBoot {
  if (!image.endsWith(".raw"))
    throw new BuildError(`${image}: the kernel can be taken out of a raw image only (--format raw)`);
  const esp = `${image}@@${partitionStarts().esp}`;
  const take = (name: string) => {
    const path = join(dir, name);
    runProgram("mcopy", ["-n", "-o", "-i", esp, `::/slot-a/${name}`, path], 0);
    return path;
  };
  const words = /words="([^"]*)"/.exec(readFileSync(take("slot.cfg"), "utf8"))?.[1] ?? "";
  return { kernel: take("vmlinuz"), initrd: take("initrd"), words: `goldcopy.slot=a ${words}` };
}
