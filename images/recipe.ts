/**
 * What an appliance's disk image is made of: Debian's packages, the files taken from them, the kernel's modules, and the layout of the
 * disk. `scripts/image build` follows it.
 *
 * Beside it: `root/` (files of the root, as they are), `initrd/`, `boot/`, `network_config.ts`.
 */
import type { PackageSet } from "../scripts/debian/packages.ts";

/** What an update bundle is for: another kind of machine refuses it. */
export const machineName = "goldcopy-vm-x86_64";
/** The oldest version that this one may be installed over. */
export const minimumPrevious = "0.1.0";

export const imagePackages: PackageSet = {
  user: "the image",
  kernel: "linux-image-cloud-amd64",
  packages: [
    "busybox-static",
    "dmsetup",
    "dosfstools",
    "e2fsprogs",
    "util-linux",
    // The libraries of these and of Bun; whether that is all of them is checked when the image is made.
    "libblkid1",
    "libc6",
    "libcom-err2",
    "libdevmapper1.02.1",
    "libext2fs2",
    "libgcc-s1",
    "libpcre2-8-0",
    "libselinux1",
    "libss2",
    "libudev1",
    "libuuid1",
    // The boot loader's parts.
    "grub-efi-amd64-bin",
    "grub-pc-bin",
  ],
};

/** Of the packages, into the root. */
export const rootPrograms = ["sbin/mke2fs", "sbin/e2fsck", "sbin/blkid", "sbin/fsck.fat", "usr/bin/flock"] as const;
export const rootFiles = ["etc/mke2fs.conf"] as const;
export const initrdPrograms = ["sbin/dmsetup"] as const;

/** Until the root is there: the buses and disks of QEMU, Proxmox, VMware, Hyper-V and Xen (NVMe and ext4 are in the kernel). */
export const initrdModules = [
  "virtio_pci",
  "virtio_blk",
  "virtio_scsi",
  "vmw_pvscsi",
  "hv_storvsc",
  "xen_blkfront",
  "ata_piix",
  "sd_mod",
  "dm_verity",
  "squashfs",
] as const;

export const rootModules = [
  ...initrdModules,
  // Network.
  "virtio_net",
  "vmxnet3",
  "hv_netvsc",
  "xen_netfront",
  "ena",
  "gve",
  // Seeds and the ESP.
  "sr_mod",
  "isofs",
  "vfat",
  "nls_ascii",
  "nls_cp437",
  "nls_iso8859_1",
  // Non-volatile memory.
  "nfit",
  "nd_pmem",
  "virtio_pmem",
  // The power button.
  "button",
  "evdev",
  // Watchdogs; softdog where there is no other one.
  "softdog",
  "wdat_wdt",
  "xen_wdt",
  // What hypervisors expect of a guest, and a fast CRC for ext4.
  "virtio_rng",
  "hyperv_keyboard",
  "hv_utils",
  "crc32c_intel",
] as const;

/** What GRUB is able to do, for both kinds of firmware, and what only one of them needs. */
export const grubModules = {
  both: [
    "part_gpt",
    "fat",
    "normal",
    "configfile",
    "loadenv",
    "test",
    "echo",
    "linux",
    "reboot",
    "serial",
    "terminal",
    "sleep",
  ],
  bios: ["biosdisk", "linux16"],
  efi: ["efi_gop", "efi_uga", "all_video"],
} as const;

export const mebibyte = 1024 * 1024;

interface Partition {
  /** In the GPT; the appliance finds its partitions by it. */
  readonly name: string;
  readonly type: string;
  readonly uuid: string;
  readonly sizeBytes: number;
}

/**
 * In this order on the disk, from 1 MiB on. The identifiers are the same in every image of every version: what is built from one commit is
 * equal byte for byte.
 */
export const partitions = {
  bios: {
    name: "goldcopy-bios",
    type: "21686148-6449-6E6F-744E-656564454649",
    uuid: "60adc0b1-0001-4000-8000-000000000001",
    sizeBytes: mebibyte,
  },
  /** Boot loader, its variables, and each slot's kernel and initrd. */
  esp: {
    name: "goldcopy-esp",
    type: "C12A7328-F81F-11D2-BA4B-00A0C93EC93B",
    uuid: "60adc0b1-0002-4000-8000-000000000002",
    sizeBytes: 96 * mebibyte,
  },
  rootA: {
    name: "goldcopy-a",
    type: "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709",
    uuid: "60adc0b1-0003-4000-8000-000000000003",
    sizeBytes: 256 * mebibyte,
  },
  rootB: {
    name: "goldcopy-b",
    type: "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709",
    uuid: "60adc0b1-0004-4000-8000-000000000004",
    sizeBytes: 256 * mebibyte,
  },
  /** Configuration, the event log and the write cache (256 MiB where the console's questions are answered). */
  state: {
    name: "goldcopy-state",
    type: "0FC63DAF-8483-4772-8E79-3D69D8477DE4",
    uuid: "60adc0b1-0005-4000-8000-000000000005",
    sizeBytes: 1024 * mebibyte,
  },
} as const satisfies Record<string, Partition>;

export const diskUuid = "60adc0b1-0000-4000-8000-000000000000";
export const stateFilesystemUuid = "60adc0b1-0006-4000-8000-000000000006";
export const espVolumeId = "60ADC0B1";
/** The partitions lie on whole MiB; the first and the last of the disk hold the two tables. */
export const diskBytes = Object.values(partitions).reduce((sum, { sizeBytes }) => sum + sizeBytes, 2 * mebibyte);
