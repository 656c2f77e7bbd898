/**
 * `scripts/image`: builds the disk image of an appliance, and starts one in QEMU. Words are judged here, work is done in `image_build/`.
 * Exit codes as everywhere: 0 done, 1 refused or failed, 2 usage.
 */
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type ArgSpec, type OptionSpec, parseArgs, usageOf } from "../firmware/shell/args.ts";
import { Given } from "../firmware/shell/command.ts";
import { minimumPrevious } from "../images/recipe.ts";
import packageJson from "../package.json" with { type: "json" };
import { ensureClients } from "./clients.ts";
import { BuildError } from "./debian/build_error.ts";
import { buildImage, defaultOut, type Format, formats } from "./image_build/build.ts";
import { bundleOfImage, developmentPrivateKey, makeKeyPair, readPrivateKey } from "./image_build/bundle.ts";
import { buildPackage } from "./image_build/deb.ts";
import { directBootOf, emulator, type Machine, machineArguments, plainMachine } from "./image_build/machine.ts";
import { makeSeed, seedPrograms } from "./image_build/seed.ts";

class UsageError extends Error {}

interface ImageCommand {
  readonly verb: string;
  readonly summary: string;
  readonly args: readonly ArgSpec[];
  readonly options: readonly OptionSpec[];
  readonly run: (given: Given) => Promise<number>;
}

const commands: readonly ImageCommand[] = [
  {
    verb: "build",
    summary: "the image of this commit, and a manifest with its root hash, sizes and digests; needs no root",
    args: [],
    options: [
      { name: "out", kind: "text", value: "DIR", what: "where it is put (.cache/image/)" },
      { name: "format", kind: "text", value: "raw,qcow2,ova", what: "which of them, with commas (raw,qcow2)" },
      {
        name: "update-key",
        kind: "list",
        value: "FILE",
        what: "a public key (PEM) whose updates it accepts (images/update_keys/development.pem, which is no secret)",
      },
      { name: "json", kind: "flag", what: "print the manifest, and nothing else" },
    ],
    run: build,
  },
  {
    verb: "bundle",
    summary: "a signed update bundle out of a built raw image: goldcopy update install takes it",
    args: [],
    options: [
      {
        name: "image",
        kind: "text",
        value: "FILE",
        what: "a raw image, its manifest (.json) beside it (the last one built)",
      },
      { name: "key", kind: "text", value: "FILE", what: "the private key (images/update_keys/development.key)" },
      {
        name: "minimum",
        kind: "text",
        value: "VERSION",
        what: `the oldest version it may follow (${minimumPrevious})`,
      },
      { name: "out", kind: "text", value: "FILE", what: "where it is put (goldcopy-VERSION.bundle beside the image)" },
      { name: "json", kind: "flag", what: "print the bundle's manifest, and nothing else" },
    ],
    run: bundle,
  },
  {
    verb: "key",
    summary: "a key pair to sign updates with: NAME.key to keep secret, NAME.pem for scripts/image build --update-key",
    args: [{ name: "NAME", what: "a path without an ending: oak-updates" }],
    options: [],
    run: key,
  },
  {
    verb: "deb",
    summary: "the firmware of this commit as a Debian package with a systemd unit, for an ordinary server",
    args: [],
    options: [{ name: "out", kind: "text", value: "DIR", what: "where it is put (.cache/image/)" }],
    run: deb,
  },
  {
    verb: "run",
    summary: "one appliance in QEMU, its serial console here (Ctrl-A X ends it, Ctrl-A C is QEMU's monitor)",
    args: [],
    options: [
      { name: "image", kind: "text", value: "FILE", what: "raw or qcow2; it is written to (the last one built)" },
      { name: "seed", kind: "text", value: "DIR", what: "a folder with goldcopy.toml, meta-data, network-config" },
      { name: "disk", kind: "list", value: "FILE,serial=S", what: "a disk for the shelf (qemu-img create FILE 10G)" },
      { name: "forward", kind: "list", value: "PORT:PORT", what: "from this machine's loopback to the appliance" },
      { name: "memory", kind: "integer", value: "MIB", what: "memory (1024)" },
      { name: "cpus", kind: "integer", value: "N", what: "processors (1)" },
      { name: "cpu", kind: "text", value: "MODEL", what: "QEMU's model of the processor (max, with --kvm host)" },
      { name: "kvm", kind: "flag", what: "use KVM; without it the processor is emulated" },
      { name: "uefi", kind: "flag", what: "UEFI (Debian's OVMF) instead of BIOS" },
      { name: "kernel-direct", kind: "flag", what: "QEMU starts the kernel of a raw image, without a boot loader" },
    ],
    run,
  },
];

async function build(given: Given): Promise<number> {
  const json = given.has("json");
  const wished = (given.text("format") ?? "raw,qcow2").split(",");
  const unknown = wished.find((format) => !formats.some((known) => known === format));
  if (unknown !== undefined) throw new UsageError(`--format: "${unknown}" is none of ${formats.join(", ")}`);
  const say = (text: string) => {
    if (!json) console.log(text);
  };
  const updateKeys = given.list("update-key");
  const { manifest, dir } = await buildImage({
    out: given.text("out") ?? defaultOut,
    formats: wished as Format[],
    ...(updateKeys.length === 0 ? {} : { updateKeys }),
    say,
  });
  if (json) {
    console.log(JSON.stringify(manifest, null, 2));
    return 0;
  }
  console.log(`root hash ${manifest.rootHash} (${mib(manifest.rootBytes)})`);
  for (const { name, bytes, sha256 } of manifest.files) console.log(`${join(dir, name)}  ${mib(bytes)}  ${sha256}`);
  console.log(`${join(dir, `goldcopy-${manifest.version}.json`)}`);
  return 0;
}

async function bundle(given: Given): Promise<number> {
  const missing = ensureClients((line) => console.error(line), ["mcopy"]);
  if (missing.length > 0) throw new BuildError(missing.map(({ text }) => text).join("\n"));
  const image = given.text("image") ?? join(defaultOut, `goldcopy-${packageJson.version}.raw`);
  const keyPath = given.text("key") ?? developmentPrivateKey;
  const minimum = given.text("minimum") ?? minimumPrevious;
  if (!/^\d+\.\d+\.\d+$/.test(minimum))
    throw new UsageError(`--minimum: "${minimum}" is no version; write for example 0.1.0`);
  const out = given.text("out") ?? image.replace(/\.raw$/, ".bundle");
  const manifest = bundleOfImage({ image, out, minimum, key: readPrivateKey(keyPath) });
  if (given.has("json")) {
    console.log(JSON.stringify(manifest, null, 2));
    return 0;
  }
  console.log(
    `${out}  ${manifest.version}, counter ${manifest.counter}, for ${manifest.machine}  ${mib(statSync(out).size)}`,
  );
  if (keyPath === developmentPrivateKey)
    console.log(
      "signed with the development key, which is no secret: for trying things out (scripts/image key makes one of your own)",
    );
  return 0;
}

async function deb(given: Given): Promise<number> {
  const { path, release } = await buildPackage(given.text("out") ?? defaultOut, (text) => console.error(text));
  console.log(`${path}  ${release.name}  ${mib(statSync(path).size)}`);
  return 0;
}

async function key(given: Given): Promise<number> {
  const { privatePath, publicPath } = makeKeyPair(given.arg(0));
  console.log(`${privatePath}  signs updates (scripts/image bundle --key): keep it secret, and keep it`);
  console.log(`${publicPath}  scripts/image build --update-key: images with it accept them`);
  return 0;
}

const mib = (bytes: number) => `${(bytes / 1024 / 1024).toFixed(1)} MiB`;

async function run(given: Given): Promise<number> {
  const missing = ensureClients((line) => console.log(line), [emulator, ...seedPrograms]);
  if (missing.length > 0) throw new BuildError(missing.map(({ text }) => text).join("\n"));
  const isDirect = given.has("kernel-direct");
  const built = join(defaultOut, `goldcopy-${packageJson.version}.${isDirect ? "raw" : "qcow2"}`);
  const image = given.text("image") ?? built;
  if (!existsSync(image)) throw new BuildError(`${image} is not there: scripts/image build makes it`);
  const dir = mkdtempSync(join(tmpdir(), "goldcopy-vm-"));
  try {
    const seedFolder = given.text("seed");
    const seed = seedFolder === null ? null : join(dir, "seed.img");
    if (seedFolder !== null && seed !== null) makeSeed(seedFolder, seed);
    const acceleration = given.has("kvm") ? "kvm" : "tcg";
    const machine: Machine = {
      image,
      seed,
      disks: given.list("disk").map(diskOf),
      forwards: given.list("forward").map(forwardOf),
      firmware: given.has("uefi") ? "uefi" : "bios",
      direct: isDirect ? directBootOf(image, dir) : null,
      acceleration,
      cpu: given.text("cpu") ?? (acceleration === "kvm" ? "host" : plainMachine.cpu),
      cpus: given.number("cpus") ?? plainMachine.cpus,
      memoryMib: given.number("memory") ?? plainMachine.memoryMib,
    };
    return await inForeground(emulator, [...machineArguments(machine), "-serial", "mon:stdio"]);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

function diskOf(text: string): Machine["disks"][number] {
  const match = /^(.+),serial=([A-Za-z0-9._-]{1,20})$/.exec(text);
  if (match?.[1] === undefined || match[2] === undefined)
    throw new UsageError(
      `--disk: "${text}" is not FILE,serial=S (1 to 20 letters and digits); write for example shelf0.img,serial=SHELF0`,
    );
  if (!existsSync(match[1])) throw new BuildError(`${match[1]} is not there: qemu-img create ${match[1]} 10G`);
  return { file: match[1], serial: match[2] };
}

function forwardOf(text: string): Machine["forwards"][number] {
  const match = /^(\d{1,5}):(\d{1,5})$/.exec(text);
  if (match === null) throw new UsageError(`--forward: "${text}" is not PORT:PORT; write for example 10809:10809`);
  return { host: Number(match[1]), guest: Number(match[2]) };
}

/** It has this terminal, and what ends this ends it. */
function inForeground(program: string, args: readonly string[]): Promise<number> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, [...args], { stdio: "inherit" });
    const end = () => child.kill("SIGTERM");
    // Ctrl-C is for the appliance's console: QEMU hands it on.
    process.on("SIGINT", () => {});
    process.on("SIGTERM", end);
    process.on("SIGHUP", end);
    child.on("error", reject);
    child.on("close", (code) => resolve(code ?? 1));
  });
}

function help(command: ImageCommand | null): string {
  if (command === null) {
    const lines = commands.map(({ verb, summary }) => `  ${verb}\n      ${summary}`);
    return ["usage: scripts/image COMMAND [--options]", "", ...lines, "", "more: scripts/image COMMAND --help"].join(
      "\n",
    );
  }
  const width = Math.max(...command.options.map(({ name, value }) => name.length + (value?.length ?? 0)));
  const rows = command.options.map(
    ({ name, value, what }) => `  --${`${name} ${value ?? ""}`.padEnd(width + 1)}  ${what}`,
  );
  return [`usage: scripts/image ${command.verb} [--options]`, "", command.summary, "", ...rows].join("\n");
}

async function main(): Promise<number> {
  const [verb, ...words] = process.argv.slice(2);
  const command = commands.find((candidate) => candidate.verb === verb) ?? null;
  const wantsHelp = [verb, ...words].some((word) => word === "--help" || word === "-h" || word === "help");
  if (wantsHelp || verb === undefined) {
    console.log(help(command));
    return wantsHelp ? 0 : 2;
  }
  if (command === null) {
    console.error(`image: there is no command "${verb}" (there are ${commands.map(({ verb }) => verb).join(", ")})`);
    return 2;
  }
  const parsed = parseArgs(words, command.args, command.options);
  if (!parsed.ok) {
    console.error(`image: ${parsed.text}; usage: scripts/image ${verb} ${usageOf(command.args, command.options)}`);
    return 2;
  }
  try {
    return await command.run(new Given(parsed.value));
  } catch (error) {
    if (!(error instanceof BuildError || error instanceof UsageError)) throw error;
    console.error(`image: ${error.message}`);
    return error instanceof UsageError ? 2 : 1;
  }
}

process.exitCode = await main();
