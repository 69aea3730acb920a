<?php
/*
 * Runs cells of PHP: requests come on descriptor 3, events go to 4 (see talk.py).
 *
 * Rule 1: this is PHP's auto_prepend_file, before an empty script: so STDIN, STDOUT and STDERR
 * are not yet defined and can be ours, and cells are included by code outside of functions:
 * their variables are the globals.
 * Rule 2: PHP ends the process when a function or class is defined twice. A definition that is
 * there already is left out; a changed one gets another name, under which later cells import
 * it, and to which the first one passes its calls on. See `Cell`.
 * Rule 3: after a fatal error the shutdown function goes on with the next cell. The second one
 * ends the process.
 */

namespace Jupyter {

/** A cell ends before its end. */
class Left extends \Error
{
    public int $status = 0;
}

class Interrupted extends \Error
{
}

function leave($status = 0)
{
    if (is_string($status)) {
        echo $status;
    }
    $left = new Left('exit');
    $left->status = is_int($status) ? $status : 0;
    throw $left;
}

function readline($prompt = null)
{
    $text = Runner::ask((string) $prompt, false);
    return $text ?? false;
}

/**
 * What the system's settings would load. Where a sandbox does not show those, since secrets are
 * among them, the extensions are there all the same. In an order in which they need each other.
 */
final class Extensions
{
    private const NAMES = ['tokenizer', 'posix', 'ctype', 'iconv', 'json', 'mbstring', 'readline',
        'calendar', 'exif', 'fileinfo', 'gettext', 'sockets', 'shmop', 'sysvmsg', 'sysvsem', 'sysvshm',
        'phar', 'pdo', 'sqlite3', 'pdo_sqlite', 'mysqlnd', 'mysqli', 'pdo_mysql', 'pgsql', 'pdo_pgsql',
        'xml', 'dom', 'simplexml', 'xmlreader', 'xmlwriter', 'xsl', 'soap', 'zip', 'bz2', 'bcmath',
        'gmp', 'intl', 'gd', 'curl', 'ftp', 'tidy', 'igbinary', 'redis', 'imagick', 'yaml'];

    public static function load(): void
    {
        if (php_ini_scanned_files() || !function_exists('dl')) {
            return;
        }
        foreach (self::NAMES as $name) {
            if (!extension_loaded($name) && is_file(ini_get('extension_dir') . "/$name.so")) {
                @dl($name);
            }
        }
    }
}

/**
 * Children write to the cell's own pipes. PHP cannot open those: it follows the link in /proc to
 * a name that isn't one. So the shell that starts a child does, and closes what is ours.
 */
final class Children
{
    public const NAMES = ['system', 'exec', 'passthru', 'shell_exec', 'popen', 'proc_open'];

    public static function place(int $number): string
    {
        return '/proc/' . getenv('SANDBOX_ADAPTER') . "/fd/$number";
    }

    /** The command, with descriptors 1 and 2 where they are asked for. */
    public static function redirected(string $command, bool $isOut = false, bool $isErr = true): string
    {
        $words = 'exec 3<&- 4>&-' . ($isOut ? ' >' . self::place(1) : '') . ($isErr ? ' 2>' . self::place(2) : '');
        return "$words\n$command";
    }
}

function system($command, &$code = null)
{
    return \system(Children::redirected($command), $code);
}

function exec($command, &$output = null, &$code = null)
{
    return \exec(Children::redirected($command), $output, $code);
}

function passthru($command, &$code = null)
{
    return \passthru(Children::redirected($command), $code);
}

function shell_exec($command)
{
    return \shell_exec(Children::redirected($command));
}

function popen($command, $mode)
{
    return \popen(Children::redirected($command, strpos($mode, 'w') !== false), $mode);
}

function proc_open($command, array $spec, &$pipes, ...$rest)
{
    $whole = is_string($command) ? Children::redirected($command, !isset($spec[1]), !isset($spec[2])) : $command;
    return \proc_open($whole, $spec, $pipes, ...$rest);
}

/** The other end of the pipes, and what goes on there. */
final class Runner
{
    public static string $url = '';
    public static $value = null;
    public static ?\Throwable $error = null;
    public static bool $isRunning = false;
    private static $requests;
    private static $events;
    private static int $main = 0;
    private const WHOLE = 4000; // bytes that a pipe takes at once, with a header
    private static bool $isTalking = false;
    private static bool $isDue = false;
    private static bool $isDoomed = false;
    private static string $how = '';
    private static ?Cell $cell = null;

    public static function start(): void
    {
        self::$main = getmypid();
        self::$requests = fopen('php://fd/3', 'rb');
        self::$events = fopen('php://fd/4', 'wb');
        if (!self::$requests || !self::$events) {
            exit(70);
        }
        stream_set_write_buffer(self::$events, 0);
        stream_set_chunk_size(self::$requests, 65536);
        Extensions::load();
        self::prepare();
        self::emit('ready', PHP_VERSION, 'PHP');
    }

    private static function prepare(): void
    {
        error_reporting(E_ALL);
        ini_set('display_errors', '0');
        ini_set('error_log', Children::place(2)); // of `error_log`, and what is fatal in `survive`
        stream_wrapper_register('cell', Stream::class);
        define('STDIN', fopen('cell://stdin', 'r'));
        define('STDOUT', fopen('cell://stdout', 'w'));
        define('STDERR', fopen('cell://stderr', 'w'));
        set_error_handler([self::class, 'hearWarning']);
        register_shutdown_function([self::class, 'survive']);
        self::openBuffer();
        self::listenToSignals();
    }

    private static function openBuffer(): void
    {
        ob_start([self::class, 'hearOutput'], 1, PHP_OUTPUT_HANDLER_FLUSHABLE);
    }

    private static function listenToSignals(): void
    {
        if (!function_exists('pcntl_async_signals')) {
            return;
        }
        pcntl_async_signals(true);
        pcntl_signal(SIGINT, static function (): void {
            if (!self::$isRunning) {
                return;
            }
            if (self::$isTalking) {
                self::$isDue = true;
            } else {
                throw new Interrupted('The cell was interrupted.');
            }
        });
    }

    // -- talking

    /** A message at once; an interrupt waits for its end. */
    public static function emit(string $kind, string $argument = '-', string $payload = ''): void
    {
        $isFork = getmypid() !== self::$main;
        if ($isFork && $kind !== 'out' && $kind !== 'err') {
            return; // it has no say
        }
        if ($isFork && strlen($payload) > self::WHOLE) { // nor may its text mix with ours
            self::emit($kind, $argument, substr($payload, 0, self::WHOLE));
            self::emit($kind, $argument, substr($payload, self::WHOLE));
            return;
        }
        self::$isTalking = true;
        $message = "$kind $argument " . strlen($payload) . "\n" . $payload;
        while ($message !== '') {
            $count = @fwrite(self::$events, $message);
            if (!$count) {
                self::$isRunning = false;
                exit(70);
            }
            $message = $count === strlen($message) ? '' : substr($message, $count);
        }
        self::$isTalking = false;
    }

    private static function receive(): array
    {
        self::$isTalking = true;
        $header = self::readPiece(true);
        [$kind, $argument, $length] = explode(' ', trim($header));
        $payload = '';
        while (strlen($payload) < (int) $length) {
            $payload .= self::readPiece(false, (int) $length - strlen($payload));
        }
        self::$isTalking = false;
        return [$kind, $argument, $payload];
    }

    /** A signal makes PHP give up reading: then again, unless the other end is closed. */
    private static function readPiece(bool $isLine, int $length = 4096): string
    {
        do {
            $piece = $isLine ? fgets(self::$requests) : fread(self::$requests, $length);
            if (($piece === false || $piece === '') && feof(self::$requests)) {
                self::$isRunning = false;
                exit(0);
            }
        } while ($piece === false || $piece === '');
        return $piece;
    }

    /** The answer of whoever sits at the front end, null for the end of file. */
    public static function ask(string $prompt, bool $isPassword): ?string
    {
        self::emit('input', $isPassword ? '1' : '0', $prompt);
        do { // here an interrupt ends the cell
            self::throwIfDue();
            $read = [self::$requests];
            $none = null;
        } while (!@stream_select($read, $none, $none, null));
        [, $argument, $text] = self::receive();
        if ($argument !== 'ok') {
            throw new \RuntimeException('This client cannot answer questions.');
        }
        return $text === "\x04" ? null : $text;
    }

    public static function throwIfDue(): void
    {
        if (self::$isDue && self::$isRunning) {
            self::$isDue = false;
            throw new Interrupted('The cell was interrupted.');
        }
    }

    // -- what PHP prints

    public static function hearOutput(string $text): string
    {
        if ($text !== '') {
            self::emit('out', '-', $text);
        }
        return '';
    }

    public static function hearWarning(int $number, string $text, string $file, int $line): bool
    {
        if (error_reporting() & $number) {
            $names = [E_WARNING => 'Warning', E_USER_WARNING => 'Warning', E_NOTICE => 'Notice',
                E_USER_NOTICE => 'Notice', E_DEPRECATED => 'Deprecated',
                E_USER_DEPRECATED => 'Deprecated', E_USER_ERROR => 'Error'];
            $name = $names[$number] ?? 'Warning';
            $text = self::withoutOurStream($text);
            self::emit('err', '-', "$name: $text in " . Failure::place($file) . " on line $line\n");
        }
        return true;
    }

    /** PHP looks for a file that isn't there beside the cell as well, and says only that. */
    private static function withoutOurStream(string $text): string
    {
        $ours = '~\(cell://([^)]*)\)(: failed to open stream: )".*" call failed$~i';
        return preg_replace($ours, '($1)$2No such file or directory', $text) ?? $text;
    }

    // -- requests

    /** Answer requests until one is a cell to include: false at the end. */
    public static function next(): bool
    {
        while (true) {
            [$kind, $argument, $text] = self::receive();
            switch ($kind) {
                case 'execute':
                case 'evaluate':
                    if (self::begin($kind, $argument, $text)) {
                        return true;
                    }
                    break;
                case 'complete':
                    Reader::complete((int) $argument, $text);
                    break;
                case 'inspect':
                    Reader::inspect($argument, $text);
                    break;
                case 'check':
                    [$status, $indent] = Reader::check($text);
                    self::emit('checked', $status, $indent);
                    break;
                case 'attach':
                    self::attach($argument, $text);
                    break;
            }
        }
    }

    private static function begin(string $kind, string $argument, string $text): bool
    {
        [self::$value, self::$error, self::$isDue] = [null, null, false];
        if ($kind === 'execute') {
            [, $count, $silent] = explode(',', $argument);
            self::$url = "cell://Cell[$count]";
            self::$how = $silent === '1' ? '' : 'result';
        } else {
            self::$url = 'cell://expression';
            self::$how = 'evaluate';
        }
        self::$isRunning = true;
        try {
            self::$cell = new Cell($text, self::$url);
            Stream::$sources[substr(self::$url, 7)] = self::$cell->source();
            if (self::$isDoomed && !self::compiles(substr(self::$url, 7))) {
                throw new \Error('PHP cannot compile this cell; what it says of it is on standard error.');
            }
            return true;
        } catch (\Throwable $error) {
            self::$error = $error;
            self::finish();
            return false;
        }
    }

    /** Where the next fatal error would be the last: those of the compiler come to a fork. */
    private static function compiles(string $name): bool
    {
        if (!function_exists('pcntl_fork') || !function_exists('posix_kill')) {
            return true;
        }
        $pid = pcntl_fork();
        if ($pid === 0) {
            $source = Stream::$sources[$name];
            Stream::$sources[$name] = '<?php return; ' . substr($source, 6);
            try {
                include "cell://$name";
            } catch (\Throwable $error) {
                unset($error); // the cell itself will tell
            }
            posix_kill(posix_getpid(), 9);
        }
        $status = 0;
        while (pcntl_waitpid($pid, $status) === -1 && pcntl_get_last_error() === PCNTL_EINTR) {
            continue;
        }
        return !pcntl_wifexited($status);
    }

    public static function finish(): void
    {
        try {
            self::throwIfDue();
            self::show();
        } catch (\Throwable $error) {
            self::$error = $error;
        }
        while (ob_get_level() > 1 && @ob_end_flush()) {
            continue; // what a cell left open
        }
        self::$isRunning = self::$isDue = false;
        self::listenToSignals();
        $error = self::$error;
        if (getmypid() !== self::$main) { // a fork that ran past its end
            exit($error instanceof Left ? $error->status : ($error ? 255 : 0));
        }
        $isFine = $error === null || $error instanceof Left && $error->status === 0;
        if (!$isFine) {
            Failure::report($error);
        }
        [self::$value, self::$error] = [null, null];
        self::emit('done', $isFine ? 'ok' : 'error');
    }

    private static function show(): void
    {
        $isValue = self::$cell && self::$cell->hasValue || self::$value !== 1;
        if (self::$error || self::$how === '' || !$isValue) {
            return;
        }
        if (self::$value === null && self::$how === 'result') {
            return;
        }
        Forms::send(Forms::of(self::$value));
        if (self::$how === 'result') {
            self::emit('result');
        }
    }

    private static function attach(string $ecosystem, string $path): void
    {
        $programs = $ecosystem === 'apt' ? "$path/usr/bin" : "$path/bin";
        putenv("PATH=$programs:" . getenv('PATH'));
        $modules = $ecosystem === 'apt' ? "$path/usr/share/php" : $path;
        if ($ecosystem === 'apt' || $ecosystem === 'composer') {
            set_include_path(get_include_path() . PATH_SEPARATOR . $modules);
        }
        if (is_file("$path/vendor/autoload.php")) {
            require_once "$path/vendor/autoload.php";
        }
        self::emit('attached');
    }

    /** After a fatal error, or an `exit` that we couldn't replace. */
    public static function survive(): void
    {
        if (!self::$isRunning) {
            return;
        }
        $last = error_get_last();
        $isFatal = $last && $last['type'] & (E_ERROR | E_CORE_ERROR | E_COMPILE_ERROR | E_PARSE | E_RECOVERABLE_ERROR);
        if ($isFatal) {
            self::$error = new \ErrorException($last['message'], 0, $last['type'], $last['file'], $last['line']);
            error_clear_last();
        } else {
            self::$error = new Left('exit');
        }
        self::$isDoomed = true;
        ini_set('log_errors', '1'); // all that can be said of the next one
        if ($isFatal) {
            self::emit('err', '-', "[sandbox] Variables are kept; after another error of this kind PHP would have to start anew.\n");
        }
        self::finish();
        self::goOn();
    }

    /** The loop again, in a function: variables of cells go in by reference and out again. */
    private static function goOn(): void
    {
        while (self::next()) {
            foreach (array_keys($GLOBALS) as $jupyterName) {
                if ($jupyterName !== 'GLOBALS' && $jupyterName !== 'jupyterName') {
                    global $$jupyterName;
                }
            }
            try {
                self::$value = include self::$url;
            } catch (\Throwable $jupyterError) {
                self::$error = $jupyterError;
            }
            unset($jupyterError, $jupyterName);
            foreach (array_keys(get_defined_vars()) as $jupyterName) {
                $GLOBALS[$jupyterName] = &$$jupyterName;
            }
            unset($GLOBALS['jupyterName']);
            self::finish();
        }
    }
}

/** `cell://`: the sources of cells, and standard input and output. */
final class Stream
{
    /** @var array<string, string> */
    public static array $sources = [];
    public $context;
    private string $name = '';
    private int $offset = 0;
    private bool $isAtEnd = false;
    private bool $isLast = false;

    public function stream_open(string $path, string $mode): bool
    {
        $this->name = substr($path, 7);
        return isset(self::$sources[$this->name]) || in_array($this->name, ['stdin', 'stdout', 'stderr'], true);
    }

    public function stream_read(int $count): string
    {
        if ($this->name === 'stdin') {
            return $this->ask();
        }
        $piece = substr(self::$sources[$this->name] ?? '', $this->offset, $count);
        $this->offset += strlen($piece);
        return $piece;
    }

    /** Nobody can press Ctrl-D in a notebook: to who reads all, one answer is all there is. */
    private function ask(): string
    {
        $this->isAtEnd = $this->isLast;
        $this->isLast = false;
        $text = $this->isAtEnd ? null : Runner::ask('', false);
        if ($text === null) {
            $this->isAtEnd = true;
            return '';
        }
        foreach (debug_backtrace(DEBUG_BACKTRACE_IGNORE_ARGS, 6) as $frame) {
            $all = ['stream_get_contents', 'file_get_contents', 'file', 'stream_copy_to_stream'];
            $this->isLast = $this->isLast || in_array($frame['function'], $all, true);
        }
        return "$text\n";
    }

    public function stream_write(string $text): int
    {
        Runner::emit($this->name === 'stderr' ? 'err' : 'out', '-', $text);
        return strlen($text);
    }

    public function stream_eof(): bool
    {
        if ($this->name === 'stdin') {
            return $this->isAtEnd;
        }
        return $this->offset >= strlen(self::$sources[$this->name] ?? '');
    }

    public function stream_stat(): array
    {
        return isset(self::$sources[$this->name]) ? ['size' => strlen(self::$sources[$this->name])] : [];
    }

    public function url_stat(): array
    {
        return [];
    }

    public function stream_flush(): bool
    {
        return true;
    }

    public function stream_set_option(): bool
    {
        return false;
    }
}

/** One cell, and what has to be changed in its text. Lines stay where they are. */
final class Cell
{
    /** Where the calls of a function go that was defined anew. @var array<string, string> */
    public static array $newer = [];
    /** @var array<string, array{text: string, name: string, url: string, line: int}> by kind and name */
    private static array $defined = [];
    /** `use` of all cells, by kind and alias. @var array<string, string> */
    private static array $imports = [];
    private static int $count = 0;
    public bool $hasValue = false;
    private string $url;
    /** @var list<array{0: int|string, 1: string, 2: int}> */
    private array $tokens = [];
    private string $source = '';
    /** @var array<string, string> */
    private array $adopted = [];
    /** @var array<string, bool> */
    private array $own = [];

    public function __construct(string $text, string $url)
    {
        $this->url = $url;
        $text = preg_replace('/^(\s*)<\?php\b/', '$1     ', $text);
        $isTemplate = preg_match('/^\s*<(?!<<)/', $text) === 1;
        $opening = $isTemplate ? '<?php ?>' : '<?php ';
        if (!function_exists('token_get_all')) {
            $this->source = $opening . $text . "\n;";
            return;
        }
        foreach (token_get_all($opening . $text) as $token) {
            $this->tokens[] = is_array($token) ? $token : [$token, $token, end($this->tokens)[2] ?? 1];
        }
        $this->build();
    }

    public function source(): string
    {
        return $this->source;
    }

    /** From the cell's first statement on: what it defines is there. */
    public static function adopt(int $number): void
    {
        foreach (self::$pending[$number] ?? [] as $key => $definition) {
            self::$defined[$key] = $definition;
            [$kind, $name] = explode(':', $key);
            $alias = preg_replace('/__\d+$/', '', $definition['name']);
            if ($alias === $definition['name']) {
                continue;
            }
            $word = $kind === 'function' ? 'use function' : 'use';
            self::$imports[$key] = "$word \\{$definition['name']} as $alias;";
            if ($kind === 'function') {
                self::$newer[$name] = $definition['name'];
            } else {
                self::renew($name, self::$pending[$number]);
            }
        }
        unset(self::$pending[$number]);
    }

    /** @var array<int, array<string, array>> by cell: what is defined once it has begun */
    private static array $pending = [];

    /** Functions of other cells that name a class which is another one now, compiled again. */
    private static function renew(string $class, array $except): void
    {
        foreach (self::$defined as $key => $definition) {
            [$kind, $name] = explode(':', $key);
            if ($kind !== 'function' || isset($except[$key]) || !preg_match("/\\b$class\\b/i", $definition['text'])) {
                continue;
            }
            $new = preg_replace('/__\d+$/', '', $definition['name']) . '__' . ++self::$count;
            $text = preg_replace('/^(function\s*&?\s*)\w+/i', '${1}' . $new, $definition['text']);
            $file = substr($definition['url'], 7);
            $kept = Stream::$sources[$file] ?? '';
            Stream::$sources[$file] = '<?php ' . implode(' ', self::$imports) . str_repeat("\n", $definition['line'] - 1) . $text;
            include $definition['url'];
            Stream::$sources[$file] = $kept;
            self::$defined[$key]['name'] = self::$newer[$name] = $new;
        }
    }

    private function build(): void
    {
        $this->replaceWords();
        $statements = $this->statements();
        $isOwnFile = false; // what has to come first is first already
        foreach ($statements as [$first, $last]) {
            $id = $this->tokens[$first][0];
            $isOwnFile = $isOwnFile || $id === T_NAMESPACE || $id === T_DECLARE && $first < 4;
            if ($id === T_USE) {
                $this->import($first, $last);
            }
        }
        if (!$isOwnFile) {
            foreach ($statements as [$first, $last]) {
                $this->define($first, $last);
            }
        }
        $this->wrapLast($statements);
        $this->source = implode('', array_column($this->tokens, 1));
        if (!$isOwnFile) {
            $this->source = '<?php ' . $this->preamble() . substr($this->source, 6);
        }
    }

    private function preamble(): string
    {
        $imports = array_diff_key(self::$imports, $this->own);
        if (!$this->adopted) {
            return implode(' ', $imports);
        }
        $number = ++self::$count;
        self::$pending[$number] = $this->adopted;
        foreach ($this->adopted as $key => $definition) {
            $alias = preg_replace('/__\d+$/', '', $definition['name']);
            $word = strpos($key, 'function:') === 0 ? 'use function' : 'use';
            if ($alias !== $definition['name']) {
                $imports[$key] = "$word \\{$definition['name']} as $alias;";
            } else {
                unset($imports[$key]);
            }
        }
        return implode(' ', $imports) . " \\Jupyter\\Cell::adopt($number); ";
    }

    private function replaceWords(): void
    {
        $isCommand = false; // between backticks
        foreach ($this->tokens as $index => [$id, $text]) {
            $word = strtolower(ltrim($text, '\\'));
            if ($id === T_EXIT) {
                $this->tokens[$index][1] = '\Jupyter\leave' . ($this->next($index) === '(' ? '' : '()');
            } elseif ($id === T_DIR) {
                $this->tokens[$index][1] = var_export((string) getcwd(), true);
            } elseif ($id === T_CONSTANT_ENCAPSED_STRING && preg_match('~^.php://(stdin|stdout|stderr).$~', $text, $found)) {
                $this->tokens[$index][1] = "'cell://$found[1]'";
            } elseif (($word === 'readline' || in_array($word, Children::NAMES, true)) && $this->isCall($index)) {
                $this->tokens[$index][1] = "\\Jupyter\\$word";
            } elseif ($id === '`') {
                $isCommand = !$isCommand;
                $this->tokens[$index][1] = $isCommand ? '\Jupyter\shell_exec("' : '")';
            } elseif ($isCommand && $id === T_ENCAPSED_AND_WHITESPACE) {
                $this->tokens[$index][1] = str_replace(['\\`', '"'], ['`', '\\"'], $text);
            }
        }
    }

    private function isCall(int $index): bool
    {
        [$id] = $this->tokens[$index];
        $isName = $id === T_STRING || defined('T_NAME_FULLY_QUALIFIED') && $id === constant('T_NAME_FULLY_QUALIFIED');
        $others = array_map('constant', array_filter(['T_NULLSAFE_OBJECT_OPERATOR'], 'defined'));
        $members = [T_OBJECT_OPERATOR, T_DOUBLE_COLON, T_FUNCTION, T_NEW, T_NS_SEPARATOR, ...$others];
        return $isName && $this->next($index) === '(' && !in_array($this->before($index), $members, true);
    }

    private static function isSpace($id): bool
    {
        return in_array($id, [T_WHITESPACE, T_COMMENT, T_DOC_COMMENT, T_OPEN_TAG], true);
    }

    private function next(int $index)
    {
        do {
            $index++;
        } while (isset($this->tokens[$index]) && self::isSpace($this->tokens[$index][0]));
        return $this->tokens[$index][0] ?? null;
    }

    private function before(int $index)
    {
        do {
            $index--;
        } while ($index >= 0 && self::isSpace($this->tokens[$index][0]));
        return $this->tokens[$index][0] ?? null;
    }

    /** First and last token of each statement outside of braces. */
    private function statements(): array
    {
        [$found, $first, $depth, $last] = [[], null, 0, 0];
        foreach ($this->tokens as $index => [$id]) {
            if (self::isSpace($id)) {
                continue;
            }
            $first = $first ?? $index;
            $last = $index;
            if (in_array($id, ['(', '[', '{', T_CURLY_OPEN, T_DOLLAR_OPEN_CURLY_BRACES], true) || $this->isAttribute($id)) {
                $depth++;
            } elseif ($id === ')' || $id === ']' || $id === '}') {
                $depth--;
            }
            $isEnd = $id === ';' || $id === T_CLOSE_TAG || $id === T_INLINE_HTML || $id === '}' && $this->isBlock($first);
            if ($depth <= 0 && $isEnd) {
                $found[] = [$first, $index];
                [$first, $depth] = [null, 0];
            }
        }
        if ($first !== null) {
            $found[] = [$first, $last];
        }
        return $found;
    }

    private function isAttribute($id): bool
    {
        return defined('T_ATTRIBUTE') && $id === constant('T_ATTRIBUTE');
    }

    private function isBlock(int $first): bool
    {
        [$id] = $this->tokens[$first];
        if ($id === T_FUNCTION) {
            return $this->nameAfter($first) !== null;
        }
        $newer = array_map('constant', array_filter(['T_ENUM', 'T_READONLY', 'T_ATTRIBUTE'], 'defined'));
        $blocks = ['{', T_IF, T_ELSE, T_ELSEIF, T_FOR, T_FOREACH, T_WHILE, T_SWITCH, T_TRY, T_CATCH,
            T_FINALLY, T_CLASS, T_ABSTRACT, T_FINAL, T_INTERFACE, T_TRAIT, T_DECLARE, T_NAMESPACE];
        return in_array($id, [...$blocks, ...$newer], true);
    }

    /** The index of the name that a `function` or `class` is followed by. */
    private function nameAfter(int $index): ?int
    {
        do {
            $index++;
            $id = $this->tokens[$index][0] ?? null;
        } while (self::isSpace($id) || $id === '&' || isset($this->tokens[$index]) && $this->tokens[$index][1] === '&');
        return $id === T_STRING ? $index : null;
    }

    private function textOf(int $first, int $last): string
    {
        return implode('', array_column(array_slice($this->tokens, $first, $last - $first + 1), 1));
    }

    private function import(int $first, int $last): void
    {
        $text = preg_replace('/\s+/', ' ', trim(substr($this->textOf($first, $last), 3), " \t\n;"));
        $word = preg_match('/^(function|const) /', $text, $found) ? "$found[1] " : '';
        $text = substr($text, strlen($word));
        $parts = preg_match('/^(.*?)\{(.*)\}$/', $text, $found)
            ? array_map(static fn ($part) => $found[1] . trim($part), explode(',', $found[2])) : explode(',', $text);
        foreach (array_filter(array_map('trim', $parts)) as $part) {
            $alias = preg_match('/(\w+)$/', $part, $found) ? $found[1] : $part;
            $key = (trim($word) ?: 'class') . ':' . strtolower($alias);
            self::$imports[$key] = "use $word$part;";
            $this->own[$key] = true;
        }
    }

    private function define(int $first, int $last): void
    {
        $kinds = [T_FUNCTION => 'function', T_CLASS => 'class', T_INTERFACE => 'class', T_TRAIT => 'class'];
        if (defined('T_ENUM')) {
            $kinds[constant('T_ENUM')] = 'class';
        }
        for ($index = $first; $index <= $last && $this->tokens[$index][0] !== '{'; $index++) {
            $kind = $kinds[$this->tokens[$index][0]] ?? null;
            if ($kind !== null) {
                $name = $this->isBlock($first) ? $this->nameAfter($index) : null;
                if ($name !== null && ($kind === 'class' || $index === $first)) {
                    $this->defineNamed($kind, $name, $first, $last);
                }
                return;
            }
        }
    }

    private function defineNamed(string $kind, int $at, int $first, int $last): void
    {
        $name = $this->tokens[$at][1];
        $key = $kind . ':' . strtolower($name);
        $text = $this->textOf($first, $last);
        $before = self::$defined[$key] ?? $this->adopted[$key] ?? null;
        $exists = $kind === 'function' ? function_exists($name)
            : class_exists($name, false) || interface_exists($name, false) || trait_exists($name, false);
        if ($before !== null && $before['text'] === $text) {
            $this->blank($first, $last);
            return;
        }
        if ($before === null && $exists) {
            throw new \Error("Cannot redeclare $name: PHP itself or an included file has it. Choose another name.");
        }
        $new = $before === null ? $name : $name . '__' . ++self::$count;
        $this->tokens[$at][1] = $new;
        $this->own[$key] = true;
        $this->adopted[$key] = ['text' => $text, 'name' => $new, 'url' => $this->url, 'line' => $this->tokens[$first][2]];
        if ($kind === 'function' && $before === null) {
            $this->forward(strtolower($name), $first, $last);
        }
    }

    private function blank(int $first, int $last): void
    {
        for ($index = $first; $index <= $last; $index++) {
            $this->tokens[$index][1] = str_repeat("\n", substr_count($this->tokens[$index][1], "\n"));
            $this->tokens[$index][0] = T_WHITESPACE;
        }
    }

    /** Calls of this function go to a newer one, when there is one. */
    private function forward(string $name, int $first, int $last): void
    {
        [$depth, $references, $variables, $body, $returns] = [0, false, [], null, ''];
        for ($index = $first; $index <= $last && $body === null; $index++) {
            [$id, $text] = $this->tokens[$index];
            $depth += $id === '(' ? 1 : ($id === ')' ? -1 : 0);
            if ($id === '{' && $depth === 0) {
                $body = $index;
            } elseif ($depth === 1 && $id === T_VARIABLE) {
                $variables[] = ($this->before($index) === T_ELLIPSIS ? '...' : '') . $text;
            } elseif ($depth >= 1 && $text === '&') {
                $references = true;
            } elseif ($depth === 0 && $variables !== null) {
                $returns = $id === ')' ? '' : $returns . strtolower($text);
            }
        }
        if ($body === null) {
            return;
        }
        $arguments = $references ? implode(', ', $variables) : '...\func_get_args()';
        $call = "(\\Jupyter\\Cell::\$newer['$name'])($arguments)";
        $how = preg_match('/:\s*(void|never)\s*$/', $returns) ? "$call; return;"
            : ($this->yields($body, $last) ? "return yield from $call;" : "return $call;");
        if (preg_match('/:\s*never\s*$/', $returns)) {
            return;
        }
        $this->tokens[$body][1] = "{ if (isset(\\Jupyter\\Cell::\$newer['$name'])) { $how }";
    }

    /** Whether the function itself does, and not one inside of it. */
    private function yields(int $body, int $last): bool
    {
        [$depth, $inner] = [0, null];
        for ($index = $body; $index <= $last; $index++) {
            [$id] = $this->tokens[$index];
            if ($id === T_FUNCTION && $inner === null) {
                $inner = $depth;
            } elseif (in_array($id, ['{', T_CURLY_OPEN, T_DOLLAR_OPEN_CURLY_BRACES], true)) {
                $depth++;
            } elseif ($id === '}') {
                $depth--;
                $inner = $inner === $depth ? null : $inner;
            } elseif ($inner === null && ($id === T_YIELD || $id === T_YIELD_FROM)) {
                return true;
            }
        }
        return false;
    }

    /** The last statement needs no semicolon; without one its value is shown. */
    private function wrapLast(array $statements): void
    {
        [$first, $last] = end($statements) ?: [null, null];
        if ($first === null || in_array($this->tokens[$last][0], [';', T_CLOSE_TAG, T_INLINE_HTML, T_WHITESPACE], true)) {
            return;
        }
        $this->tokens[$last][1] .= ';';
        [$id] = $this->tokens[$first];
        $noValues = [T_ECHO, T_PRINT, T_RETURN, T_UNSET, T_GLOBAL, T_CONST, T_USE, T_GOTO, T_BREAK,
            T_CONTINUE, T_INLINE_HTML, T_DO, T_THROW];
        $isDeclaration = $id === T_STATIC && $this->next($first) === T_VARIABLE;
        if ($this->isBlock($first)) {
            $this->tokens[$last][1] = substr($this->tokens[$last][1], 0, -1);
        } elseif (!in_array($id, $noValues, true) && !$isDeclaration) {
            $this->tokens[$first][1] = 'return ' . $this->tokens[$first][1];
            $this->hasValue = true;
        }
    }
}

/** How a value looks. */
final class Forms
{
    private const METHODS = ['text/html' => 'toHtml', 'image/svg+xml' => 'toSvg', 'image/png' => 'toPng',
        'image/jpeg' => 'toJpeg', 'text/latex' => 'toLatex', 'text/markdown' => 'toMarkdown'];

    /** @return array<string, string> */
    public static function of($value): array
    {
        $forms = ['text/plain' => self::text($value)];
        if (!is_object($value)) {
            return $forms;
        }
        foreach (self::METHODS as $mime => $method) {
            if (is_callable([$value, $method]) && method_exists($value, $method)) {
                $forms[$mime] = (string) $value->$method();
            }
        }
        if ($value instanceof \GdImage) {
            ob_start();
            imagepng($value);
            $forms['image/png'] = ob_get_clean();
        }
        return $forms;
    }

    public static function send(array $forms): void
    {
        foreach ($forms as $mime => $data) {
            Runner::emit('data', $mime, $data);
        }
    }

    public static function text($value, string $indent = '', int $depth = 0): string
    {
        if (is_array($value)) {
            return self::wrapped('[', ']', self::elements($value, $indent, $depth), $indent);
        }
        if (!is_object($value)) {
            return is_resource($value) ? get_resource_type($value) . ' resource' : ($value === null ? 'null' : self::scalar($value));
        }
        $class = preg_replace('/__\d+$/', '', explode("\0", get_class($value))[0]);
        if ($value instanceof \UnitEnum) {
            return "$class::$value->name";
        }
        if ($value instanceof \Closure) {
            return 'Closure';
        }
        if ($value instanceof \DateTimeInterface) {
            return "$class(" . $value->format('c') . ')';
        }
        if ($depth > 6) {
            return "$class {...}";
        }
        $parts = [];
        foreach ((array) $value as $name => $part) {
            $name = preg_replace('/^\0.*\0/', '', (string) $name);
            $parts[] = "$name: " . self::text($part, "$indent    ", $depth + 1);
        }
        return $class . ' ' . self::wrapped('{', '}', $parts, $indent);
    }

    private static function scalar($value): string
    {
        return is_string($value) ? "'" . addcslashes($value, "'\\") . "'" : var_export($value, true);
    }

    private static function elements(array $value, string $indent, int $depth): array
    {
        if ($depth > 6) {
            return ['...'];
        }
        [$parts, $expected] = [[], 0];
        foreach ($value as $key => $part) {
            if (count($parts) === 1000) {
                $parts[] = '... ' . (count($value) - 1000) . ' more';
                break;
            }
            $parts[] = ($key === $expected++ ? '' : self::scalar($key) . ' => ') . self::text($part, "$indent    ", $depth + 1);
        }
        return $parts;
    }

    private static function wrapped(string $open, string $close, array $parts, string $indent): string
    {
        $line = implode(', ', $parts);
        if (strlen($line) < 80 && strpos($line, "\n") === false) {
            return $open . $line . $close;
        }
        return "$open\n" . implode(",\n", array_map(static fn ($part) => "$indent    $part", $parts)) . "\n$indent$close";
    }
}

/** An error as a reader wants it: without our frames. */
final class Failure
{
    public static function place(string $file): string
    {
        return strpos($file, 'cell://') === 0 ? substr($file, 7) : $file;
    }

    public static function report(\Throwable $error): void
    {
        [$name, $message] = self::told($error);
        Runner::emit('ename', '-', $name);
        Runner::emit('evalue', '-', $message);
        foreach (self::lines($error) as $line) {
            Runner::emit('trace', '-', $line);
        }
    }

    private static function told(\Throwable $error): array
    {
        if ($error instanceof Left) {
            return ['SystemExit', "exit $error->status"];
        }
        if ($error instanceof Interrupted) {
            return ['Interrupted', $error->getMessage()];
        }
        $message = str_replace('cell://', '', $error->getMessage());
        if ($error instanceof \ErrorException && $error->getSeverity() & (E_ERROR | E_COMPILE_ERROR | E_CORE_ERROR)) {
            return ['Fatal error', $message];
        }
        return [get_class($error), $message];
    }

    private static function lines(\Throwable $error): array
    {
        if ($error instanceof Left) {
            return [implode(': ', self::told($error))];
        }
        $lines = [];
        for ($shown = 0; $error && $shown < 10; $shown++, $error = $error->getPrevious()) {
            [$name, $message] = self::told($error);
            $where = $error->getFile() === __FILE__ ? '' : ' in ' . self::place($error->getFile()) . ':' . $error->getLine();
            array_push($lines, ($shown ? 'Previous: ' : '') . "$name: $message$where", ...self::frames($error));
        }
        return $lines;
    }

    private static function frames(\Throwable $error): array
    {
        $frames = [];
        foreach ($error->getTrace() as $frame) {
            $file = $frame['file'] ?? '[internal function]';
            $function = preg_replace('/__\d+$/', '', ($frame['class'] ?? '') . ($frame['type'] ?? '') . $frame['function']);
            if ($file === __FILE__ || strpos($function, 'Jupyter\\') === 0 || count($frames) > 50) {
                continue;
            }
            $frames[] = '    ' . self::place($file) . (isset($frame['line']) ? ":$frame[line]" : '') . " $function()";
        }
        return $frames;
    }
}

/** Reads code without running any: completion, inspection and completeness. */
final class Reader
{
    private const KEYWORDS = ['abstract', 'and', 'array', 'as', 'break', 'callable', 'case', 'catch',
        'class', 'clone', 'const', 'continue', 'declare', 'default', 'do', 'echo', 'else', 'elseif',
        'empty', 'enum', 'extends', 'final', 'finally', 'fn', 'for', 'foreach', 'function', 'global',
        'if', 'implements', 'include', 'include_once', 'instanceof', 'interface', 'isset', 'list',
        'match', 'namespace', 'new', 'null', 'true', 'false', 'print', 'private', 'protected', 'public',
        'readonly', 'require', 'require_once', 'return', 'static', 'switch', 'throw', 'trait', 'try',
        'unset', 'use', 'var', 'while', 'yield'];

    /** @return array{string, string} */
    public static function check(string $text): array
    {
        if (!function_exists('token_get_all')) {
            return ['unknown', ''];
        }
        $opening = preg_match('/^\s*<(?!<<)/', $text) ? '' : '<?php ';
        $message = self::problem($opening . $text);
        if ($message !== null && self::isUnfinished($message)) {
            $message = self::problem("$opening$text\n;") === null ? null : $message;
        }
        if ($message === null) {
            return ['complete', ''];
        }
        if (self::problem("$opening$text';") === null || self::problem("$opening$text\";") === null) {
            return ['incomplete', '']; // a text without its end
        }
        if (!self::isUnfinished($message)) {
            return ['invalid', ''];
        }
        $lines = array_values(array_filter(explode("\n", $text), 'trim'));
        $last = end($lines) ?: '';
        preg_match('/^\s*/', $last, $found);
        return ['incomplete', $found[0] . (preg_match('/[{(\[:]\s*$/', $last) ? '    ' : '')];
    }

    private static function problem(string $source): ?string
    {
        try {
            token_get_all($source, TOKEN_PARSE);
            return null;
        } catch (\ParseError $error) {
            return $error->getMessage();
        }
    }

    private static function isUnfinished(string $message): bool
    {
        return preg_match('/end of file|^Unclosed [^\']*\'.\'( on line \d+)?$|Unterminated/', $message) === 1;
    }

    public static function complete(int $offset, string $text): void
    {
        $before = substr($text, 0, $offset);
        preg_match('/[\w\\\\\x80-\xff]*$/', $before, $found);
        $word = $found[0];
        $rest = substr($before, 0, strlen($before) - strlen($word));
        $matches = [];
        foreach (self::candidates($rest, $word) as $name => $type) {
            $isOurs = stripos((string) $name, 'Jupyter\\') === 0;
            if (!$isOurs && stripos((string) $name, $word) === 0 && count($matches) < 500) {
                $matches[$name] = $type;
            }
        }
        ksort($matches, SORT_STRING | SORT_FLAG_CASE);
        foreach ($matches as $name => $type) {
            Runner::emit('match', $type, (string) $name);
        }
        Runner::emit('completed', (string) ($offset - strlen($word)));
    }

    /** @return array<string, string> types by name */
    private static function candidates(string $rest, string $word): array
    {
        if (substr($rest, -1) === '$') {
            return array_fill_keys(array_diff(array_keys($GLOBALS), ['GLOBALS']), 'variable');
        }
        if (preg_match('/\$(\w+)\s*\??->$/', $rest, $found)) {
            return self::members($GLOBALS[$found[1]] ?? null);
        }
        if (preg_match('/([\w\\\\]+)::\$?$/', $rest, $found)) {
            return self::statics(self::classNamed($found[1]));
        }
        if ($word === '' || preg_match('/(->|::)\$?$/', $rest)) {
            return [];
        }
        $functions = get_defined_functions();
        return array_fill_keys(self::KEYWORDS, 'keyword')
            + array_fill_keys(array_merge($functions['internal'], $functions['user']), 'function')
            + array_fill_keys(get_declared_classes(), 'class')
            + array_fill_keys(array_keys(get_defined_constants()), 'constant');
    }

    private static function members($object): array
    {
        if (!is_object($object)) {
            return [];
        }
        return array_fill_keys(get_class_methods($object), 'function')
            + array_fill_keys(array_keys(get_object_vars($object)), 'property');
    }

    private static function statics(?string $class): array
    {
        if ($class === null) {
            return [];
        }
        $reflection = new \ReflectionClass($class);
        $methods = array_column($reflection->getMethods(\ReflectionMethod::IS_STATIC), 'name');
        $properties = array_column($reflection->getProperties(\ReflectionProperty::IS_STATIC), 'name');
        return array_fill_keys($methods, 'function') + array_fill_keys(array_keys($reflection->getConstants()), 'constant')
            + array_fill_keys($properties, 'property') + ['class' => 'keyword'];
    }

    /** The newest of that name. */
    private static function classNamed(string $name): ?string
    {
        return class_exists($name) || interface_exists($name) || trait_exists($name) ? $name : null;
    }

    public static function inspect(string $argument, string $text): void
    {
        [$offset, $detail] = array_map('intval', explode(',', $argument));
        preg_match('/(?:\$?[\w\\\\]+(?:->|::))?\$?[\w\\\\]*$/', substr($text, 0, $offset), $left);
        preg_match('/^\w*/', substr($text, $offset), $right);
        try {
            $found = self::describe($left[0] . $right[0]);
        } catch (\ReflectionException $error) {
            $found = null;
        }
        if ($found !== null) {
            Runner::emit('data', 'text/plain', substr($found, 0, $detail ? 50000 : 5000));
        }
        Runner::emit('inspected', $found === null ? '0' : '1');
    }

    private static function describe(string $path): ?string
    {
        if (preg_match('/^(\$?)([\w\\\\]+)(?:->|::)(\w+)$/', $path, $found)) {
            $owner = $found[1] ? $GLOBALS[$found[2]] ?? null : self::classNamed($found[2]);
            return $owner === null || !method_exists($owner, $found[3]) ? null
                : self::signature(new \ReflectionMethod($owner, $found[3]));
        }
        if (preg_match('/^\$(\w+)$/', $path, $found)) {
            return array_key_exists($found[1], $GLOBALS)
                ? gettype($GLOBALS[$found[1]]) . "\n" . Forms::text($GLOBALS[$found[1]]) : null;
        }
        if (function_exists($path)) {
            return self::signature(new \ReflectionFunction(Cell::$newer[strtolower($path)] ?? $path));
        }
        return self::classNamed($path) === null ? null : self::describeClass(new \ReflectionClass($path));
    }

    private static function signature(\ReflectionFunctionAbstract $function): string
    {
        $parts = array_map(static function (\ReflectionParameter $parameter): string {
            return preg_replace('/^Parameter #\d+ \[ <\w+> (.*) \]$/', '$1', (string) $parameter);
        }, $function->getParameters());
        $text = 'function ' . preg_replace('/__\d+$/', '', $function->getName()) . '(' . implode(', ', $parts) . ')';
        $text .= $function->hasReturnType() ? ': ' . $function->getReturnType() : '';
        $place = $function->getFileName() ? "\nDefined at " . Failure::place($function->getFileName()) . ':' . $function->getStartLine() : "\nBuilt in";
        return $text . $place . ($function->getDocComment() ? "\n\n" . $function->getDocComment() : '');
    }

    private static function describeClass(\ReflectionClass $class): string
    {
        $methods = array_column($class->getMethods(\ReflectionMethod::IS_PUBLIC), 'name');
        $parent = $class->getParentClass();
        return 'class ' . $class->getName() . ($parent ? ' extends ' . $parent->getName() : '')
            . ($class->getDocComment() ? "\n" . $class->getDocComment() : '') . "\nMethods: " . implode(', ', $methods);
    }
}
}

namespace {

/** What a cell may use to show things: `Jupyter::html('<b>…</b>')`. */
final class Jupyter
{
    /** Shows `$value`, or text or bytes of the type `$mime`; `$id` is what `update` takes. */
    public static function display($value, ?string $mime = null, string $id = '-', array $metadata = []): void
    {
        self::show('display', $value, $mime, $id, $metadata);
    }

    public static function update($value, string $id, ?string $mime = null, array $metadata = []): void
    {
        self::show('update', $value, $mime, $id, $metadata);
    }

    public static function html(string $content): void
    {
        self::display($content, 'text/html');
    }

    public static function markdown(string $content): void
    {
        self::display($content, 'text/markdown');
    }

    public static function latex(string $content): void
    {
        self::display($content, 'text/latex');
    }

    public static function svg(string $content): void
    {
        self::display($content, 'image/svg+xml');
    }

    public static function png(string $content): void
    {
        self::display($content, 'image/png');
    }

    public static function jpeg(string $content): void
    {
        self::display($content, 'image/jpeg');
    }

    public static function json($content): void
    {
        self::display($content, 'application/json');
    }

    public static function clear(bool $wait = false): void
    {
        \Jupyter\Runner::emit('clear', $wait ? '1' : '0');
    }

    public static function password(string $prompt = ''): ?string
    {
        return \Jupyter\Runner::ask($prompt, true);
    }

    private static function show(string $how, $value, ?string $mime, string $id, array $metadata): void
    {
        if ($mime !== null) {
            $isJson = preg_match('/json$/', $mime) && !is_string($value);
            $forms = [$mime => $isJson ? (string) json_encode($value) : (string) $value];
        } else {
            $forms = is_string($value) ? ['text/plain' => $value] : \Jupyter\Forms::of($value);
        }
        \Jupyter\Forms::send($forms);
        if ($metadata) {
            \Jupyter\Runner::emit('meta', '-', (string) json_encode($metadata));
        }
        \Jupyter\Runner::emit($how, preg_match('/^\S+$/', $id) ? $id : '-');
    }
}

\Jupyter\Runner::start();
while (\Jupyter\Runner::next()) {
    try {
        \Jupyter\Runner::$value = include \Jupyter\Runner::$url;
    } catch (\Throwable $jupyterError) {
        \Jupyter\Runner::$error = $jupyterError;
    }
    unset($jupyterError);
    \Jupyter\Runner::finish();
}
}
