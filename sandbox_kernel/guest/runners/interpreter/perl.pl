# Runs cells of Perl: requests come on descriptor 3, events go to 4 (see talk.py).
#
# Rule 1: each cell is a string evaluated inside a closure that the cell before it left at the
# end of its text: so `my` variables, `use strict`, `use feature` and `package` live on as if
# all cells were one file. The closure is made while the cell is compiled: what a cell declares
# stays although it dies half-way. See `run`.
# Rule 2: no name of ours may be seen from there, so that closure comes first in this file.
# Rule 3: STDOUT, STDERR and STDIN are tied: what Perl prints is an event. Children have the
# descriptors 1 and 2 themselves.
# Rule 4: nothing but what perl-base has is loaded.
{
    use feature ':5.10';
    $Jupyter::Runner::next = sub { eval $Jupyter::Runner::code };
}

package Jupyter::Runner;
use strict;
use warnings;

our ($next, $code, $made, @try, @names);  # the closure, and what the end of a cell makes one of
our ($is_running, $is_started, $is_talking, $is_due, $status, $died) = (0, 0, 0, 0, 0, undef);
our ($main, $adapter, $buffer) = ($$, $ENV{SANDBOX_ADAPTER}, '');
our ($requests, $events);
our $name = 'Cell';

sub main {
    binmode $_ for open_pipes();
    { no warnings 'once'; *CORE::GLOBAL::exit = \&leave }
    listen_to_signals();
    stream_tie();
    emit('ready', sprintf('%vd', $^V), 'Perl');
    while (my @request = receive()) { answer(@request) }
    CORE::exit(0);
}

sub open_pipes {
    open($requests, '<&=', 3) && open($events, '>&=', 4) or CORE::exit(70);
    return ($requests, $events);
}

sub stream_tie {
    my @handles = (\*STDIN, \*STDOUT, \*STDERR);
    for my $fd (1, 2) {
        no warnings 'untie';
        my $handle = $handles[$fd];
        untie *$handle;
        # Whatever a cell did to the handle: onto the same number. The old pipe does as well.
        open($handle, '>&=', $fd) if (fileno($handle) // -1) != $fd;
        open($handle, '>', "/proc/$adapter/fd/$fd");
        my $chosen = select($handle);
        $| = 1;
        select($chosen);
        tie *$handle, 'Jupyter::Out', $fd;
    }
    tie *STDIN, 'Jupyter::In', 0;
    tie *ARGV, 'Jupyter::In', 1;
}

# One write; an interrupt waits for its end, or half a message would be said.
sub emit {
    my ($kind, $argument, $payload) = @_;
    return if $$ != $main;
    utf8::encode($payload) if utf8::is_utf8($payload);
    my $message = "$kind $argument " . length($payload) . "\n" . $payload;
    local $is_talking = 1;
    my $done = 0;
    while ($done < length $message) {
        my $count = syswrite($events, $message, length($message) - $done, $done);
        if (!defined $count) {
            next if $!{EINTR};
            CORE::exit(70);
        }
        $done += $count;
    }
    $is_talking = 0;
    interrupt() if $is_due && $is_running;
    return 1;
}

sub fill {
    my $count = sysread($requests, $buffer, 65536, length $buffer);
    CORE::exit(0) if defined $count && !$count;
    CORE::exit(70) if !defined $count && !$!{EINTR};
    return;
}

sub receive {
    local $is_talking = 1;
    fill() until $buffer =~ /\n/;
    my ($kind, $argument, $length) = split / /, substr($buffer, 0, index($buffer, "\n") + 1, '');
    fill() while length $buffer < $length;
    return ($kind, $argument, substr($buffer, 0, $length, ''));
}

# The answer of whoever sits at the front end, or undef for the end of file.
sub ask {
    my ($prompt, $is_password) = @_;
    emit('input', $is_password ? 1 : 0, $prompt);
    my $bits = '';
    vec($bits, fileno($requests), 1) = 1;
    # Here an interrupt ends the cell; inside `receive` it waits.
    1 until length $buffer || select(my $ready = $bits, undef, undef, undef) > 0;
    my (undef, $argument, $text) = receive();
    die "This client cannot answer questions.\n" if $argument ne 'ok';
    return $text eq "\x04" ? undef : $text;
}

sub answer {
    my ($kind, $argument, $text) = @_;
    if    ($kind eq 'execute')  { execute($argument, $text) }
    elsif ($kind eq 'evaluate') { finish($text, 'evaluate', 1) }
    elsif ($kind eq 'complete') { Jupyter::Reader::complete($argument, $text) }
    elsif ($kind eq 'inspect')  { Jupyter::Reader::inspect($argument, $text) }
    elsif ($kind eq 'check')    { emit('checked', Jupyter::Reader::check($text)) }
    elsif ($kind eq 'attach')   { attach($argument, $text) }
    return;
}

# -- cells

sub execute {
    my ($argument, $text) = @_;
    my (undef, $count, $silent, $fresh) = split /,/, $argument;
    stream_tie() if $fresh;
    $name = $0 = "Cell[$count]";
    if ($text =~ s/^__(?:END|DATA)__[ \t]*\r?\n(.*)\z//ms) {
        my $data = $1;
        no warnings 'once';
        open(main::DATA, '<', \$data);
    }
    finish($text, $silent ? '' : 'result', is_shown($text));
    return;
}

# A value is shown where no semicolon ends it, as long as it isn't one of printing or declaring.
# What is a block after all is found out by Perl: see `run`. The line it begins at, or 0.
sub is_shown {
    my ($text) = @_;
    return 0 if $text =~ /^=[a-zA-Z]/m;
    $text =~ s/(?:\s+|^\s*#[^\n]*)+\z//m;
    return 0 if $text !~ /\S/ || $text =~ /(?:;|^\s*\})\z/m;
    my ($last) = $text =~ /.*(?:;|\}[ \t]*\n)(.*)\z/s ? $1 : $text;
    $last =~ s/^(?:\s+|#[^\n]*\n)+//;
    return 0 if $last =~ /\b(?:my|our|state|local)\b/
        || $last =~ /^(?:print|printf|say|use|no|package|sub\s+\w+|if|unless|while|until|for|foreach|
        given|when|BEGIN|END|\w+:\s*(?:for|while))\b|^\{/x;
    return 1 + substr($text, 0, length($text) - length $last) =~ tr/\n//;
}

sub finish {
    my ($text, $how, $is_shown) = @_;
    local $died;
    my ($is_fine, @values) = run($text, $is_shown);
    my $error = $is_fine ? undef : $@;
    if ($$ != $main) {  # a fork that ran past its end
        print STDERR $error if defined $error;
        CORE::exit(defined $error ? 255 : 0);
    }
    my $is_void = $how eq '' || $how eq 'result' && !($is_shown && grep { defined } @values);
    $error = $@ if $is_fine && !$is_void && !guarded(sub { show($how, @values) });
    report($error) if defined $error;
    emit('done', defined $error ? 'error' : 'ok', '');
    return;
}

# (1, the values) or (0), and the error in $@.
sub run {
    my ($text, $is_shown) = @_;
    my @outcome = $text =~ /\b(?:my|our|state|use|no|package)\b/
        ? declare($text, $is_shown) : pass(whole($text));
    $@ = syntax_error($text, $@) if !$outcome[0] && !$is_started;
    return @outcome;
}

# Run a cell that later cells have to be inside of.
sub declare {
    my ($text, $is_shown) = @_;
    @try = declared($text);
    my @outcome;
    # The last statement keeps its value only if nothing comes after it: as its modifier we are
    # part of it. It cannot have one when it is a block or has one already: then without value.
    @outcome = pass("$text\n#line $is_shown \"$name\"\nif do { " . closing() . ' 1 }') if $is_shown;
    if (!$is_shown || !$is_started && $@ =~ /syntax error|\bnear "/) {
        local $SIG{__WARN__} = \&warn_once if $is_shown;
        @outcome = (pass(whole($text) . ';' . closing()))[0];
    }
    return @outcome;
}

# The text with an end to what is documentation up to its end.
sub whole {
    my ($text) = @_;
    my ($last) = $text =~ /.*^=([a-zA-Z]\w*)/ms;
    return defined $last && $last ne 'cut' ? "$text\n\n=cut\n\n" : "$text\n";
}

sub warn_once { print STDERR @_ if $is_started; return }

# Run one string in the scope of the cells before it.
sub pass {
    my ($text) = @_;
    my @before = ($next, scalar @names);
    $code = "\$Jupyter::Runner::is_started = 1;\n#line 1 \"$name\"\n$text";
    $is_started = 0;
    my ($is_left, $error, @values) = (1, '');
    my $is_fine = guarded(sub {
        JUPYTER_CELL: {
            @_ = ();
            @values = &$next;
            ($is_left, $error) = (0, $@);
        }
    });
    $error = $@ if !$is_fine;
    $error = bless {}, 'SystemExit' if $is_fine && $is_left && $status;
    ($next, $#names) = ($before[0], $before[1] - 1) if !$is_started;
    return (1, @values) if !ref $error && $error eq '';
    $@ = $error;
    return 0;
}

# Run a block as a cell is run; whether it came to its end.
sub guarded {
    my ($block) = @_;
    local $SIG{__DIE__} = \&note_death;
    my $is_fine = eval { $status = $is_due = 0; $is_running = 1; $block->(); $is_running = 0; 1 };
    my $error = $@;
    $is_running = $is_due = 0;
    listen_to_signals();
    $@ = $error;
    return $is_fine;
}

# Names that a cell may have declared, with sigils. `closing` finds out which are there at its end.
sub declared {
    my ($text) = @_;
    my %seen = map { $_ => 1 } @names;
    my @found;
    while ($text =~ /\b(?:my|our|state)\b([^;=){]*)/g) {
        my $list = $1;
        push @found, grep { !$seen{$_}++ } $list =~ /[\$\@%][^\W\d]\w*/g;
    }
    return @found;
}

# What ends a cell: while it is compiled, a closure over all that can be named there.
sub closing {
    return 'BEGIN { push @Jupyter::Runner::names, grep { eval "package Jupyter::Runner; use strict q(vars); no warnings; \\\\$_; 1" } @Jupyter::Runner::try; '
        . '$Jupyter::Runner::made = eval "sub { { no warnings; no strict; if (0) { (@{[map { qq(\\\\$_,) } @Jupyter::Runner::names]}) } } '
        . 'eval \\$Jupyter::Runner::code }" and $Jupyter::Runner::next = $Jupyter::Runner::made }';
}

# What Perl says of the cell alone: compiled without our end, and not run.
sub syntax_error {
    my ($text, $error) = @_;
    return $error if ref $error;
    $code = "return;\n#line 1 \"$name\"\n" . whole($text);
    guarded(sub { @_ = (); &$next; die $@ if $@ ne '' });
    return $@ if ref $@;
    my $said = $@ eq '' ? $error : $@;
    $said =~ s/#line 1 "\Q$name\E"\n//g;
    $said =~ s/^BEGIN not safe after errors[^\n]*\n//m;
    return bless { message => $said }, 'SyntaxError';
}

sub listen_to_signals {
    $SIG{INT} = sub {
        return if $$ == $main && !$is_running;
        if ($is_talking) { $is_due = 1 }
        else             { interrupt() }
    };
    return;
}

sub interrupt {
    $is_due = 0;
    die bless {}, 'Interrupted';
}

# In place of `exit`: leaves the cell, whatever evals are around it.
sub leave {
    my $wanted = @_ ? $_[0] : 0;
    CORE::exit($wanted) if $$ != $main || !$is_running;
    $status = $wanted;
    no warnings 'exiting';
    eval { last JUPYTER_CELL };
    die bless {}, 'SystemExit';  # called by a sort, a signal or a tied variable
}

# -- errors

# Who called whom, while that can still be asked.
sub note_death {
    my ($error) = @_;
    return if !defined $^S;
    my @frames;
    for (my $level = 1; @frames < 30 && (my @frame = caller($level)); $level++) {
        my (undef, $file, $line, $function) = @frame;
        next if $file eq __FILE__ || $function =~ /^Jupyter::|\(eval\)$/;
        push @frames, "\t$function called at $file line $line";
    }
    $died = [$error, @frames];
    return;
}

sub report {
    my ($error) = @_;
    my ($kind, $text) = told($error);
    emit('ename',  '-', $kind);
    emit('evalue', '-', $text);
    my @frames = $died && $text !~ / called at / && "$died->[0]" eq "$error" ? @$died[1 .. $#$died] : ();
    emit('trace', '-', $_) for split(/\n/, $kind =~ /^(?:Error|SyntaxError)$/ ? $text : "$kind: $text"), @frames;
    return;
}

sub told {
    my ($error) = @_;
    my $kind = ref $error;
    return ('Interrupted', 'The cell was interrupted.') if $kind eq 'Interrupted';
    return ('SystemExit', "exit $status") if $kind eq 'SystemExit';
    my $text = $kind eq 'SyntaxError' && $error->{message} ? $error->{message} : eval { "$error" };
    $text = $kind && defined $text && $text =~ /=?[A-Z]+\(0x/ ? Jupyter::Value::text($error) : $text;
    $text = 'An error that cannot tell what it is.' if !defined $text;
    # Carp tells of our frames, too.
    $text =~ s/\n\teval '\$Jupyter::Runner::.*//s;
    $text =~ s/ at \Q${\ __FILE__}\E line \d+/ at $name/g;
    $text =~ s/\s+\z//;
    return ($kind || 'Error', $text);
}

# -- values

sub show {
    my ($how, @values) = @_;
    my %forms = @values == 1 ? Jupyter::Value::forms($values[0]) : ('text/plain' => Jupyter::Value::list(@values));
    emit('data', $_, $forms{$_}) for sort keys %forms;
    emit('result', '-', '') if $how eq 'result';
    return 1;
}

# The value of a variable that cells have declared, by reference; undef if there is none.
sub variable {
    my ($variable) = @_;
    return if $variable !~ /^[\$\@%][\w:]+$/;
    $code = "no warnings; use strict 'vars'; \\$variable";
    @_ = ();
    my $found = &$next;
    return $@ eq '' ? $found : undef;
}

sub attach {
    my ($ecosystem, $path) = @_;
    my $is_system = $ecosystem eq 'apt';
    my @directories = $is_system
        ? ("$path/usr/share/perl5", glob("$path/usr/lib/*/perl5/*"), glob("$path/usr/lib/*/perl5"))
        : $ecosystem eq 'cpan' ? ("$path/lib/perl5") : ();
    for my $directory (grep { -d } @directories) {
        unshift @INC, $directory;
        $ENV{PERL5LIB} = join ':', $directory, $ENV{PERL5LIB} // ();
    }
    my $programs = $is_system ? "$path/usr/bin" : "$path/bin";
    $ENV{PATH} = join ':', $programs, $ENV{PATH} // () if index(":$ENV{PATH}:", ":$programs:") < 0;
    emit('attached', '-', '');
    return;
}

# What STDOUT and STDERR are tied to.
package Jupyter::Out;

sub TIEHANDLE { my ($class, $fd) = @_; return bless { fd => $fd, kind => $fd == 1 ? 'out' : 'err' }, $class }

sub say_it {
    my ($self, $text) = @_;
    # Characters or bytes: Perl alone would ask for a layer, and print Latin-1 without one.
    utf8::encode($text) if $self->{is_utf8} || utf8::is_utf8($text);
    return $self->write_raw($text) if $$ != $Jupyter::Runner::main;
    Jupyter::Runner::emit($self->{kind}, '-', $text) if length $text;
    return 1;
}

# By a fork.
sub write_raw {
    my ($self, $text) = @_;
    open(my $handle, '>>', "/proc/self/fd/$self->{fd}") or return;
    return syswrite($handle, $text);
}

sub PRINT {
    my $self = shift;
    no warnings 'uninitialized';
    return $self->say_it(join($,, @_) . $\);
}

sub PRINTF { my ($self, $format, @values) = @_; return $self->say_it(sprintf $format, @values) }

sub WRITE {
    my ($self, $text, $length, $offset) = @_;
    my $part = substr($text, $offset || 0, defined $length ? $length : length $text);
    $self->say_it($part);
    return length $part;
}

sub BINMODE { my ($self, $layer) = @_; $self->{is_utf8} = defined $layer && $layer =~ /utf-?8/i; return 1 }
sub FILENO  { return $_[0]{fd} }
sub CLOSE   { return 1 }
sub EOF     { return 1 }

# By a cell: what is printed goes where it wanted, until the next cell.
sub OPEN {
    my ($self, $mode, @where) = @_;
    no warnings 'untie';
    my $handle = $self->{fd} == 1 ? \*STDOUT : \*STDERR;
    untie *$handle;
    return @where ? open($handle, $mode, @where) : open($handle, $mode);
}

# What STDIN, and ARGV for `<>`, are tied to: each line is a question.
package Jupyter::In;

sub TIEHANDLE { my ($class, $is_argv) = @_; return bless { rest => '', is_argv => $is_argv }, $class }

sub line {
    my ($self) = @_;
    return substr($self->{rest}, 0, length $self->{rest}, '') if length $self->{rest};
    my $text = Jupyter::Runner::ask('', 0);
    return if !defined $text;
    utf8::decode($text) if $self->{is_utf8};
    return "$text\n";
}

# Nobody can press Ctrl-D in a notebook: one answer is all there is.
sub READLINE {
    my ($self) = @_;
    if ($self->{is_argv} && @ARGV) {
        no warnings 'untie';
        untie *ARGV;
        return readline(*ARGV);
    }
    return $self->line;
}

sub READ {
    my ($self, undef, $length, $offset) = @_;
    my $text = $self->line;
    $text = '' if !defined $text;
    $_[1] = '' if !defined $_[1];
    my $part = substr($text, 0, $length, '');
    $self->{rest} = $text;
    substr($_[1], $offset || 0) = $part;
    return length $part;
}

sub GETC    { my ($self) = @_; my $text; $self->READ($text, 1); return length $text ? $text : undef }
sub BINMODE { my ($self, $layer) = @_; $self->{is_utf8} = defined $layer && $layer =~ /utf-?8/i; return 1 }
sub FILENO  { return 0 }
sub EOF     { return 0 }
sub CLOSE   { return 1 }

sub OPEN {
    my ($self, $mode, @where) = @_;
    no warnings 'untie';
    untie *STDIN;
    return @where ? open(STDIN, $mode, @where) : open(STDIN, $mode);
}

# How a value looks.
package Jupyter::Value;

our @METHODS = (
    ['text/html', 'to_html'], ['image/svg+xml', 'to_svg'], ['image/png', 'to_png'],
    ['image/jpeg', 'to_jpeg'], ['text/latex', 'to_latex'], ['text/markdown', 'to_markdown'],
);

sub is_object { my ($value) = @_; return ref $value && "$value" ne '' && UNIVERSAL::can($value, 'can') && ref($value) ne 'Regexp' }

sub forms {
    my ($value) = @_;
    my %forms = ('text/plain' => text($value));
    return %forms if !is_object($value);
    for my $pair (@METHODS) {
        my ($type, $method) = @$pair;
        $forms{$type} = $value->$method if $value->can($method);
    }
    return %forms;
}

sub list { return '(' . join(', ', map { text($_) } @_) . ')' }

sub text {
    my ($value) = @_;
    my $left = 10_000;  # elements, of however many
    return told($value, '', {}, \$left);
}

sub told {
    my ($value, $indent, $seen, $left) = @_;
    return 'undef' if !defined $value;
    return $$left-- ? plain($value) : '...' if !ref $value;
    my $address = Scalar::Util::refaddr($value);
    return '...' if $seen->{$address} || $$left <= 0 || length $indent > 40;
    local $seen->{$address} = 1;
    my $class = Scalar::Util::blessed($value);
    return "$value" if ref $value eq 'Regexp' || $class && overload::Method($value, '""');
    my $text = inside($value, Scalar::Util::reftype($value), $indent, $seen, $left);
    return defined $class ? "bless($text, '$class')" : $text;
}

sub inside {
    my ($value, $type, $indent, $seen, $left) = @_;
    return wrapped('[', ']', $indent, map { told($_, "$indent  ", $seen, $left) } @$value) if $type eq 'ARRAY';
    return wrapped('{', '}', $indent, map { key($_) . ' => ' . told($value->{$_}, "$indent  ", $seen, $left) } sort keys %$value)
        if $type eq 'HASH';
    return '\\' . told($$value, $indent, $seen, $left) if $type eq 'SCALAR' || $type eq 'REF';
    return $type eq 'CODE' ? 'sub { ... }' : overload::StrVal($value);
}

sub wrapped {
    my ($open, $close, $indent, @parts) = @_;
    my $line = join ', ', @parts;
    return "$open$line$close" if length $line < 80 && $line !~ /\n/;
    return "$open\n" . join(",\n", map { "$indent  $_" } @parts) . "\n$indent$close";
}

sub plain {
    my ($value) = @_;
    return $value if ref \$value eq 'GLOB' || $value =~ /^-?(?:0|[1-9]\d{0,14})(?:\.\d+)?(?:e[-+]?\d+)?\z/i;
    $value =~ s/([\\'])/\\$1/g;
    return "'$value'";
}

sub key { my ($key) = @_; return $key =~ /^[^\W\d]\w*\z/ ? $key : plain($key) }

# What a cell may use to show things.
package Jupyter;

our %TYPES = (
    html => 'text/html', markdown => 'text/markdown', latex => 'text/latex', svg => 'image/svg+xml',
    png => 'image/png', jpeg => 'image/jpeg', json => 'application/json', text => 'text/plain',
);

# Jupyter::display($value), or with text or bytes of a type: Jupyter::display($bytes, 'image/png', id => 'a')
sub display { return Jupyter::shown('display', @_) }
sub update  { return Jupyter::shown('update',  @_) }

sub shown {
    my ($how, $value, $type, %options) = @_;
    my %forms = defined $type ? ($type => encoded($type, $value))
        : ref $value ? Jupyter::Value::forms($value) : ('text/plain' => $value);
    Jupyter::Runner::emit('data', $_, $forms{$_}) for sort keys %forms;
    Jupyter::Runner::emit('meta', '-', encoded('json', $options{metadata})) if $options{metadata};
    my $id = $options{id};
    Jupyter::Runner::emit($how, defined $id && $id =~ /^\S+\z/ ? $id : '-', '');
    return;
}

sub encoded {
    my ($type, $value) = @_;
    return $value if !ref $value || $type !~ /json$/;
    require JSON::PP;
    return JSON::PP->new->utf8->allow_nonref->encode($value);
}

for my $short (keys %TYPES) {
    no strict 'refs';
    *$short = sub { my ($content, %options) = @_; return display($content, $TYPES{$short}, %options) };
}

sub clear    { my ($wait) = @_; Jupyter::Runner::emit('clear', $wait ? 1 : 0, ''); return }
sub password { my ($prompt) = @_; return Jupyter::Runner::ask(defined $prompt ? $prompt : '', 1) }

# Reads code without running any: completion, inspection and completeness.
package Jupyter::Reader;

our @WORDS = qw(
    abs accept alarm atan2 bind binmode bless caller chdir chmod chomp chop chr close closedir
    connect continue cos defined delete die do each else elsif eof eval exec exists exit exp
    fileno flock for foreach fork format getc glob gmtime goto grep hex if import index int ioctl
    join keys kill last lc lcfirst length link listen local localtime log lstat map mkdir my next
    no oct open opendir ord our pack package pipe pop pos print printf prototype push quotemeta
    rand read readdir readline readlink redo ref rename require reset return reverse rindex rmdir
    say scalar seek select shift sin sleep sort splice split sprintf sqrt srand stat state strict
    sub substr symlink syscall sysopen sysread system syswrite tell tie time times truncate uc
    ucfirst umask undef unless unlink unpack unshift untie until use utime values wait waitpid
    wantarray warn warnings while write
);

our $UNFINISHED = qr/Missing right |Can't find string terminator|at EOF\b|not terminated|at end of line/;

# In a fork: `use` and BEGIN run while Perl compiles.
sub check {
    my ($text) = @_;
    pipe(my $read, my $write) or return ('unknown', '');
    my $pid = fork;
    return ('unknown', '') if !defined $pid;
    if (!$pid) {
        $SIG{ALRM} = 'DEFAULT';
        alarm 2;
        untie *STDERR;
        open(STDERR, '>', '/dev/null');
        $Jupyter::Runner::code = "return;\n$text\n";
        @_ = ();
        &$Jupyter::Runner::next;
        syswrite($write, 'x' . (ref $@ ? 'x' : $@));
        kill 'KILL', $$;
    }
    close $write;
    my ($said, $count) = ('', 1);
    while ($count) { $count = sysread($read, $said, 65536, length $said) // 1 }
    waitpid $pid, 0;
    return ('unknown', '') if $said eq '';
    return ('complete', '') if $said eq 'x';
    return ('invalid', '') if $said !~ $UNFINISHED || $said =~ /Unmatched right/;
    my ($last) = $text =~ /([^\n]*\S[^\n]*)\s*\z/;
    my ($indent) = ($last // '') =~ /^(\s*)/;
    return ('incomplete', $indent . (($last // '') =~ /[\{\(\[]\s*(?:#.*)?$/ ? '    ' : ''));
}

sub complete {
    my ($offset, $text) = @_;
    my $before = substr($text, 0, $offset);
    my ($word, @found) = candidates($before);
    my %seen;
    my @matches = grep { index($_->[0], $word) == 0 && !$seen{ $_->[0] }++ } @found;
    Jupyter::Runner::emit('match', $_->[1], $_->[0]) for (sort { $a->[0] cmp $b->[0] } @matches)[0 .. ($#matches < 499 ? $#matches : 499)];
    Jupyter::Runner::emit('completed', $offset - length $word, '');
    return;
}

# The word to complete, and pairs of a text and its type.
sub candidates {
    my ($before) = @_;
    if ($before =~ /\$(\w+)(->)?\{\s*['"]?(\w*)\z/) {
        my $found = Jupyter::Runner::variable($2 ? "\$$1" : "%$1");
        $found = $$found if $2 && $found;
        return ($3, ref $found && Scalar::Util::reftype($found) eq 'HASH' ? map { [$_, 'property'] } keys %$found : ());
    }
    if ($before =~ /(\$?[\w:]+)->(\w*)\z/) {
        my ($receiver, $word) = ($1, $2);
        my $found = $receiver =~ /^\$/ ? Jupyter::Runner::variable($receiver) : undef;
        my $class = $found ? Scalar::Util::blessed($$found) : $receiver;
        return ($word, defined $class ? map { [$_, 'function'] } methods($class) : ());
    }
    return ($1, map { [$_, 'variable'] } variables()) if $before =~ /([\$\@%][\w:]*)\z/;
    my ($word) = $before =~ /((?:\w+::)*\w*)\z/;
    return ($word) if $word eq '';
    my ($package) = $word =~ /^(.*)::/;
    return ($word, map { ["${package}::$_", 'function'] } symbols($package)) if defined $package;
    return ($word, (map { [$_, 'function'] } symbols('main')), map { [$_, 'keyword'] } @WORDS);
}

sub variables {
    my @mine = @Jupyter::Runner::names;
    return (@mine, (map { "\$" . substr $_, 1 } @mine), qw($_ @_ @ARGV %ENV @INC %INC $0 $! $@ %SIG));
}

# The subs and packages in a package.
sub symbols {
    my ($package) = @_;
    no strict 'refs';
    return grep { /^[^\W\d][\w]*(?:::)?\z/ && (/::\z/ ? !/^(?:main|Jupyter)::/ : defined &{"${package}::$_"}) } keys %{"${package}::"};
}

sub methods {
    my ($class, $depth) = (@_, 0);
    no strict 'refs';
    return if $depth > 20 || !%{"${class}::"};
    return ((grep { !/::\z/ } symbols($class)), map { methods($_, $depth + 1) } @{"${class}::ISA"});
}

sub inspect {
    my ($argument, $text) = @_;
    my ($offset, $detail) = split /,/, $argument;
    my ($left) = substr($text, 0, $offset) =~ /([\$\@%&]?(?:\w|::|->)*)\z/;
    my ($right) = substr($text, $offset) =~ /^(\w*)/;
    my $found = description($left . $right, substr($text, $offset + length $right, 1));
    Jupyter::Runner::emit('data', 'text/plain', substr $found, 0, $detail ? 50_000 : 5000) if defined $found;
    Jupyter::Runner::emit('inspected', defined $found ? 1 : 0, '');
    return;
}

sub description {
    my ($word, $following) = @_;
    $word =~ s/^&//;
    if ($word =~ /^\$(\w+)\z/) { $word = ($following eq '[' ? '@' : $following eq '{' ? '%' : '$') . $1 }
    if ($word =~ /^[\$\@%]/) {
        my $found = Jupyter::Runner::variable($word);
        return $found ? "$word = " . Jupyter::Value::text(ref $found eq 'ARRAY' || ref $found eq 'HASH' ? $found : $$found) : undef;
    }
    return if $word !~ /^\w/;
    return described_module($word) if $word !~ /->/ && $INC{ $word =~ s{::}{/}gr . '.pm' };
    return described_sub($word =~ s/->/::/r) // ((grep { $_ eq $word } @WORDS) ? "$word: built in; see `perldoc -f $word`." : undef);
}

sub described_sub {
    my ($sub) = @_;
    no strict 'refs';
    $sub = "main::$sub" if $sub !~ /::/;
    return if !defined &$sub;
    my $prototype = prototype \&$sub;
    my $text = "sub $sub" . (defined $prototype ? "($prototype)" : '');
    return $text if !eval { require B; 1 };
    my $start = B::svref_2object(\&$sub)->START;
    return $start->can('line') ? "$text\nDefined at " . $start->file . ' line ' . $start->line : $text;
}

sub described_module {
    my ($module) = @_;
    my $path = $INC{ $module =~ s{::}{/}gr . '.pm' };
    open(my $file, '<', $path) or return "package $module\n$path";
    local $/;
    my $source = <$file>;
    my ($synopsis) = $source =~ /^=head1 (?:SYNOPSIS|NAME)\s*\n(.*?)^=/ms;
    return "package $module\n$path" . (defined $synopsis ? "\n\n$synopsis" : '');
}

package Jupyter::Runner;
require Scalar::Util;
require overload;
require Errno;
main();
