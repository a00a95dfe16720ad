import { access } from "node:fs/promises";
import { dirname } from "node:path";

/**
 * Linux numbers that differ by processor: the system calls `prctl`, `socket`, `prlimit64` and `sched_setscheduler`, and
 * the architecture for system call filters (`AUDIT_ARCH_*`).
 */
const numbers: Readonly<Partial<Record<NodeJS.Architecture, readonly number[]>>> = {
  x64: [157, 41, 302, 144, 0xc000003e],
  arm64: [167, 198, 261, 119, 0xc00000b7],
};

/** Paths that an encoder must read: libraries. Its own folder is added. */
const readable = ["/usr", "/lib", "/lib64", "/etc/ld.so.cache"];

/**
 * Drops all rights that an encoder does not need, then executes a program. Its arguments after `--` are the limits of
 * the program in bytes of memory and seconds of CPU time, and 1 if it is to run in the idle class. The program can
 * write no files and leaves no core file. It allows no new privileges, no files but libraries, which it may read and
 * execute (Landlock, from Linux 5.13 on; newer versions also deny TCP, signals and abstract sockets outside of itself),
 * no new sockets and no io_uring (seccomp). Open pipes stay open. Perl is part of every Debian and can make system
 * calls without a library; see landlock(7) and seccomp(2).
 */
const program = `
my ($prctl, $socket, $prlimit, $schedule, $processor) = map $_ + 0, splice @ARGV, 0, 5;
my @readable;
push @readable, shift while $ARGV[0] ne "--";
shift;
my ($bytes, $seconds, $background) = map $_ + 0, splice @ARGV, 0, 3;
sub call { my $answer = syscall($_[0], @_[1 .. $#_]); die "system call $_[0]: $!" if $answer < 0; $answer }
for ([9, $bytes], [0, $seconds], [4, 0], [1, 0]) {
  my $both = pack "Q2", $_->[1], $_->[1];
  call($prlimit, 0, $_->[0], $both, 0);
}
if ($background) {
  my $priority = pack "i", 0;
  call($schedule, 0, 5, $priority);
}
call($prctl, 38, 1, 0, 0, 0);
my $version = call(444, 0, 0, 1);
my $rights = (1 << ($version < 2 ? 13 : $version < 3 ? 14 : $version < 5 ? 15 : 16)) - 1;
my $attributes = pack "Q3", $rights, 3, 3;
my $rules = call(444, $attributes, $version < 4 ? 8 : $version < 6 ? 16 : 24, 0);
for (@readable) {
  sysopen my $path, $_, 0x200000 or next;
  my $rule = pack "Qi", -d $_ ? 13 : 5, fileno $path;
  call(445, $rules, 1, $rule, 0);
}
call(446, $rules, 0);
my @filter = (
  [0x20, 0, 0, 4], [0x15, 1, 0, $processor], [0x06, 0, 0, 0x80000000],
  [0x20, 0, 0, 0], [0x35, 3, 0, 0x40000000], [0x15, 2, 0, $socket], [0x15, 1, 0, 425],
  [0x06, 0, 0, 0x7fff0000], [0x06, 0, 0, 0x50001],
);
my $filter = join "", map pack("SCCI", @$_), @filter;
my $pointer = pack "Sx6P", scalar @filter, $filter;
call($prctl, 22, 2, $pointer);
exec { $ARGV[0] } @ARGV;
die "exec: $!";
`;

const perl = "/usr/bin/perl";

/**
 * The beginning of a command that confines an encoder: the limits and the encoder's own command follow. Undefined on
 * processors and systems that it does not support.
 */
export function confinementCommand(encoderPath: string): readonly string[] | undefined {
  const forProcessor = process.platform === "linux" ? numbers[process.arch] : undefined;
  if (!forProcessor) return undefined;
  return [perl, "-e", program, ...forProcessor.map(String), ...readable, dirname(encoderPath), "--"];
}

/** Why this system has no confinement, as a clause. */
export async function whyUnconfined(): Promise<string> {
  if (process.platform !== "linux") return "only Linux has Landlock and seccomp";
  if (!numbers[process.arch]) return `confinement does not support ${process.arch}`;
  return await access(perl).then(
    () => "the kernel lacks or forbids Landlock or seccomp",
    () => `the system has no ${perl}`,
  );
}
