/** Certificates for tests, made by openssl: a CA, a server, hosts, and a rogue CA that issues a certificate with a good name. */
import { chmodSync, copyFileSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { runOk } from "./clients.ts";

export interface Certificates {
  /** ca.pem, server.pem, server.key. */
  readonly server: string;
  /** Folders as libnbd (`tls-certificates=`) and QEMU (`dir=`) want them: ca-cert.pem, client-cert.pem, client-key.pem. */
  readonly client: string;
  /** Signed by a CA that the server does not know, with the same name. */
  readonly rogue: string;
  /** Trusts the CA and has no certificate of its own. */
  readonly bare: string;
}

export const clientName = "db-1";

export async function makeCertificates(folder: string): Promise<Certificates> {
  mkdirSync(folder, { recursive: true });
  await authority(folder, "ca");
  await authority(folder, "other");
  const serverUse =
    "subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth\nkeyUsage=digitalSignature\n";
  const clientUse = "extendedKeyUsage=clientAuth\nkeyUsage=digitalSignature\n";
  await leaf(folder, { ca: "ca", file: "server", name: "localhost", use: serverUse });
  await leaf(folder, { ca: "ca", file: "client", name: clientName, use: clientUse });
  await leaf(folder, { ca: "other", file: "rogue", name: clientName, use: clientUse });
  return {
    server: folder,
    client: clientFolder(folder, "with-client", "client"),
    rogue: clientFolder(folder, "with-rogue", "rogue"),
    bare: clientFolder(folder, "with-nothing", null),
  };
}

async function authority(folder: string, file: string): Promise<void> {
  const at = (suffix: string) => join(folder, `${file}.${suffix}`);
  await runOk("openssl", ["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", at("key")]);
  await runOk("openssl", [
    ...["req", "-x509", "-new", "-key", at("key"), "-out", at("pem"), "-days", "30", "-subj", `/CN=${file} authority`],
    ...["-addext", "keyUsage=critical,keyCertSign,cRLSign"],
  ]);
}

async function leaf(
  folder: string,
  options: { readonly ca: string; readonly file: string; readonly name: string; readonly use: string },
): Promise<void> {
  const at = (file: string, suffix: string) => join(folder, `${file}.${suffix}`);
  const { ca, file, name, use } = options;
  writeFileSync(at(file, "ext"), `basicConstraints=CA:FALSE\n${use}`);
  const key = at(file, "key");
  await runOk("openssl", ["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", key]);
  await runOk("openssl", ["req", "-new", "-key", key, "-out", at(file, "csr"), "-subj", `/CN=${name}`]);
  await runOk("openssl", [
    ...["x509", "-req", "-in", at(file, "csr"), "-CA", at(ca, "pem"), "-CAkey", at(ca, "key"), "-CAcreateserial"],
    ...["-days", "30", "-extfile", at(file, "ext"), "-out", at(file, "pem")],
  ]);
}

function clientFolder(folder: string, name: string, file: string | null): string {
  const path = join(folder, name);
  mkdirSync(path, { recursive: true });
  copyFileSync(join(folder, "ca.pem"), join(path, "ca-cert.pem"));
  if (file !== null) {
    copyFileSync(join(folder, `${file}.pem`), join(path, "client-cert.pem"));
    copyFileSync(join(folder, `${file}.key`), join(path, "client-key.pem"));
    chmodSync(join(path, "client-key.pem"), 0o600);
  }
  return path;
}
