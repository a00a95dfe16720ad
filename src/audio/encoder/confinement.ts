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
 * The program of the fork server. Its arguments are the numbers above and the readable paths. It reads commands, each
 * after its length: a word, the number of a place, and what belongs to it. It answers in lines. A process's pipes are
 * three numbers from 3 + 3 * place on.
 *
 * Each process drops all rights that an encoder does not need, and becomes the program of its command. It can write no
 * files and leaves no core file. It allows no new privileges, no files but libraries, which it may read and execute
 * (Landlock, from Linux 5.13 on; newer versions also deny TCP, signals and abstract sockets outside of itself), no new
 * sockets and no io_uring (seccomp). Each process opens the readable paths itself, because an upgrade replaces what is
 * there. It has no files but its own pipes, and the kernel kills it when the fork server ends. The fork server waits for
 * the end of each process through a pidfd, and sends signals only to processes that it has not waited for. Perl is part
 * of every Debian and can make system calls without a library; see landlock(7), seccomp(2), pidfd_open(2),
 * close_range(2) and PR_SET_PDEATHSIG(2const).
 */
const program = String.raw`
$0 = "encoder-fork-server";
my ($prctl, $socket, $prlimit, $schedule, $processor) = map $_ + 0, splice @ARGV, 0, 5;
my $own = $$;
sub call { my $answer = syscall($_[0], @_[1 .. $#_]); die "system call $_[0]: $!\n" if $answer < 0; $answer }
my $version = call(444, 0, 0, 1);
my $rights = (1 << ($version < 2 ? 13 : $version < 3 ? 14 : $version < 5 ? 15 : 16)) - 1;
my $attributes = pack "Q3", $rights, 3, 3;
my @filter = (
  [0x20, 0, 0, 4], [0x15, 1, 0, $processor], [0x06, 0, 0, 0x80000000],
  [0x20, 0, 0, 0], [0x35, 3, 0, 0x40000000], [0x15, 2, 0, $socket], [0x15, 1, 0, 425],
  [0x06, 0, 0, 0x7fff0000], [0x06, 0, 0, 0x50001],
);
my $filter = join "", map pack("SCCI", @$_), @filter;
my $pointer = pack "Sx6P", scalar @filter, $filter;
my $parameters = pack "i", 0;

sub become {
  my ($input, $bytes, $seconds, @command) = @_;
  call($prctl, 1, 9, 0, 0, 0);
  exit 1 if getppid != $own;
  open STDIN, "<&", $input or die "$!\n";
  open STDOUT, ">&", $input + 1 or die "$!\n";
  open STDERR, ">&", $input + 2 or die "$!\n";
  for ([9, $bytes], [0, $seconds], [4, 0], [1, 0]) {
    my $both = pack "Q2", $_->[1], $_->[1];
    call($prlimit, 0, $_->[0], $both, 0);
  }
  call($prctl, 38, 1, 0, 0, 0);
  my $rules = call(444, $attributes, $version < 4 ? 8 : $version < 6 ? 16 : 24, 0);
  for (@ARGV) {
    sysopen my $path, $_, 0x200000 or next;
    my $rule = pack "Qi", -d $_ ? 13 : 5, fileno $path;
    call(445, $rules, 1, $rule, 0);
  }
  call(446, $rules, 0);
  call($prctl, 22, 2, $pointer);
  call(436, 3, 0xffffffff, 4);
  exec { $command[0] } @command;
  die "exec: $!\n";
}

my (%pids, %places);
sub answer { syswrite STDOUT, "@_\n" }
sub start {
  my ($place, $bytes, $seconds, $class, @command) = @_;
  my $input = 3 + 3 * $place;
  my $pid = fork;
  my $why = "fork: $!";
  become($input, $bytes, $seconds, @command) if defined $pid && $pid == 0;
  syscall(436, $input, $input + 2, 0);
  return answer("failed", $place, $why) if !defined $pid;
  if ($class eq "idle") { syscall($schedule, $pid, 5, $parameters) }
  elsif ($class eq "low") { setpriority 0, $pid, 10 }
  my $end = syscall(434, $pid, 0);
  if ($end < 0) {
    $why = "pidfd_open: $!";
    kill 9, $pid;
    waitpid $pid, 0;
    return answer("failed", $place, $why);
  }
  $pids{$place} = $pid;
  $places{$end} = $place;
  answer("started", $place, $pid);
}
sub obey {
  my ($what, $place, @rest) = @_;
  return start($place, @rest) if $what eq "start";
  my $pid = $pids{$place} or return;
  return kill 9, $pid if $what eq "kill";
  opendir my $tasks, "/proc/$pid/task" or return;
  syscall($schedule, $_ + 0, 0, $parameters) for grep /\d/, readdir $tasks;
}

my $input = "";
for (;;) {
  my $ready = "";
  vec($ready, $_, 1) = 1 for 0, keys %places;
  select($ready, undef, undef, undef) > 0 or next;
  for my $end (grep vec($ready, $_, 1), keys %places) {
    my $place = delete $places{$end};
    waitpid delete $pids{$place}, 0;
    answer("ended", $place, $?);
    syscall(436, $end + 0, $end + 0, 0);
  }
  next unless vec($ready, 0, 1);
  sysread STDIN, $input, 65536, length $input or exit;
  while (length $input >= 4 && length $input >= 4 + (my $length = unpack "N", $input)) {
    my $command = substr $input, 4, $length;
    substr($input, 0, 4 + $length) = "";
    obey(split /\0/, $command, -1);
  }
}
`;

const perl = "/usr/bin/perl";

/**
 * The command of a fork server that confines each process that it starts. Undefined on processors and systems that it
 * does not support.
 */
export function confinementCommand(encoderPath: string): readonly string[] | undefined {
  const forProcessor = process.platform === "linux" ? numbers[process.arch] : undefined;
  if (!forProcessor) return undefined;
  return [perl, "-e", program, ...forProcessor.map(String), ...readable, dirname(encoderPath)];
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
