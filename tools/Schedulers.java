//SOURCES ../watchdog.java

// What starts the passes: a block in the crontab, a systemd timer or a launchd agent.

import java.io.IOException;
import java.nio.charset.Charset;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.stream.Collectors;

/** Something that starts passes. */
interface Scheduler {
    /** What `install` writes, for people. */
    String text();
    /** What it has written, or would write. */
    List<String> places();
    boolean isInstalled() throws IOException;
    /** If this fails, what was installed before is still there. */
    void install() throws IOException;
    void remove() throws IOException;
    /** What may keep the passes from running. */
    List<String> problems();
}

/** A block in the user's crontab. Everything else in the crontab is kept to the byte. */
record Crontab(Job job) implements Scheduler {
    private String begin() { return "# >>> watchdog " + job.id() + " "; }
    private String end() { return "# <<< watchdog " + job.id() + "\n"; }

    @Override public List<String> places() { return List.of("a block in your crontab"); }

    /** On a Mac launchd starts cron when there is a crontab. */
    @Override public List<String> problems() {
        boolean unknown = !job.finds("pgrep") || System.getProperty("os.name").startsWith("Mac");
        return unknown || job.run("pgrep", "-x", "crond?").exit() == 0 ? List.of()
            : List.of("no cron daemon runs here; start it, or the schedule does nothing");
    }

    /** Without a PATH= line, which would change the user's other jobs; the script sets PATH. */
    @Override public String text() {
        long minutes = job.every().toMinutes();
        String times = minutes < 60 ? "*/" + minutes + " * * * *"
            : "0 */" + minutes / 60 + " * * *";
        String command = job.words(true).stream().map(Crontab::quote)
            .collect(Collectors.joining(" ")).replace("%", "\\%"); // a plain % ends a command
        return begin() + "(written by `watchdog schedule`; --remove removes it)\n"
            + times + " " + command + "\n@reboot sleep 60; " + command + "\n" + end();
    }

    static String quote(String word) {
        return word.matches("[\\w@%+=:,./-]+") ? word : "'" + word.replace("'", "'\\''") + "'";
    }

    @Override public boolean isInstalled() throws IOException {
        return job.finds("crontab") && list().exit() == 0 && content().contains(begin());
    }

    @Override public void install() throws IOException {
        String old = read(), present = blockIn(old);
        String block = new String(text().getBytes(StandardCharsets.UTF_8), CHARSET);
        String gap = old.isEmpty() || old.endsWith("\n") ? "" : "\n";
        write(present.isEmpty() ? old + gap + block : old.replace(present, block));
    }

    @Override public void remove() throws IOException {
        String old = read();
        write(old.replace(blockIn(old), ""));
    }

    private String blockIn(String crontab) {
        int from = crontab.indexOf(begin()), to = crontab.indexOf(end(), Math.max(from, 0));
        ExitException.mistakeIf(from >= 0 && to < 0, "your crontab has the line '" + begin()
            + "…' but not '" + end().strip() + "'; delete the block with `crontab -e`");
        return from < 0 ? "" : crontab.substring(from, to + end().length());
    }

    private String read() throws IOException {
        CommandResult list = list();
        if (list.exit() == 0) return content();
        if (list.output().matches("(?si).*no (crontab|such file).*")) return "";
        throw ExitException.failure("watchdog: cannot read your crontab"
            + Text.lastWords(list.output()));
    }

    // By files and in a character set that has all bytes: a crontab may be in any.
    private static final Charset CHARSET = StandardCharsets.ISO_8859_1;
    private Path file() { return job.folder().resolve("crontab"); }
    private String content() throws IOException { return Files.readString(file(), CHARSET); }

    private CommandResult list() {
        return job.run("sh", "-c", "exec crontab -l >\"$0\"", file().toString());
    }

    private void write(String crontab) throws IOException {
        Files.writeString(file(), crontab, CHARSET);
        CommandResult written = job.run("crontab", file().toString());
        if (written.exit() != 0) throw ExitException.failure("watchdog: crontab refused the new"
            + " crontab; the old one is unchanged" + Text.lastWords(written.output()));
    }
}

/** Files that systemd or launchd reads, and the shell commands that load and unload them. */
record Units(Job job, Map<Path, String> files, String load, String unload, String problem)
    implements Scheduler {
    static Units systemd(Job job) {
        Path folder = job.config().resolve("systemd/user");
        String name = "watchdog-" + job.id(), timer = name + ".timer";
        long minutes = job.every().toMinutes();
        String command =
            job.words(false).stream().map(Units::quote).collect(Collectors.joining(" "));
        String service = """
            [Unit]
            Description=A pass of watchdog

            [Service]
            Type=oneshot
            ExecStart=%s
            # Otherwise systemd ends what the pass has started, when the pass ends.
            KillMode=process
            # 3 is inconclusive, and 75 that another pass is running: no failures of this unit.
            SuccessExitStatus=3 75
            TimeoutStartSec=10min
            """.formatted(command);
        // Without Persistent: a computer that was off need not catch up on its passes.
        String schedule = """
            [Unit]
            Description=Passes of watchdog

            [Timer]
            OnStartupSec=1min
            OnCalendar=%s
            AccuracySec=1s
            RandomizedDelaySec=20s

            [Install]
            WantedBy=timers.target
            """.formatted(minutes < 60 ? "*:0/" + minutes : "0/" + minutes / 60 + ":00");
        boolean lingers = Files.exists(Path.of("/var/lib/systemd/linger", job.user()));
        return new Units(job, new TreeMap<>(Map.of(folder.resolve(name + ".service"), service,
            folder.resolve(timer), schedule)), "systemctl --user daemon-reload"
            + " && systemctl --user enable " + timer + " && systemctl --user restart " + timer,
            "systemctl --user disable --now " + timer, lingers ? "" : "systemd runs this only while"
            + " you are logged in; to run it always: loginctl enable-linger " + job.user());
    }

    /** Between quotes, where % and $ must be doubled. */
    private static String quote(String word) {
        String escaped = word.replace("\\", "\\\\").replace("\"", "\\\"");
        return "\"" + escaped.replace("%", "%%").replace("$", "$$") + "\"";
    }

    static Units launchd(Job job) {
        String label = "watchdog." + job.id();
        Path file = job.home().resolve("Library/LaunchAgents/" + label + ".plist");
        String words = job.words(true).stream().map(word -> "        <string>" + word
            .replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;") + "</string>\n")
            .collect(Collectors.joining());
        // AbandonProcessGroup: otherwise launchd ends what the pass has started, when it ends.
        // ProcessType: otherwise launchd slows the pass down.
        String plist = """
            <?xml version="1.0" encoding="UTF-8"?>
            <!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" \
            "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
            <plist version="1.0">
            <dict>
                <key>Label</key><string>%s</string>
                <key>ProgramArguments</key>
                <array>
            %s    </array>
                <key>StartInterval</key><integer>%d</integer>
                <key>RunAtLoad</key><true/>
                <key>AbandonProcessGroup</key><true/>
                <key>ProcessType</key><string>Interactive</string>
            </dict>
            </plist>
            """.formatted(label, words, job.every().toSeconds());
        String unload = "launchctl bootout gui/$(id -u)/" + label;
        // For some seconds after bootout, bootstrap fails with "5: Input/output error".
        String load = unload + " 2>/dev/null; for pause in 0 1 2 4 8; do sleep $pause; launchctl"
            + " bootstrap gui/$(id -u) ~/Library/LaunchAgents/" + label + ".plist && break; done";
        return new Units(job, Map.of(file, plist), load, unload, "launchd runs this only while you"
            + " are logged in; to run it always, use --as cron, and give your terminal Full Disk"
            + " Access");
    }

    @Override public List<String> places() {
        return files.keySet().stream().map(Path::toString).toList();
    }

    @Override public String text() {
        StringBuilder text = new StringBuilder();
        files.forEach((file, content) ->
            text.append("# ").append(file).append("\n").append(content).append("\n"));
        return text + "# and then:\n" + load + "\n";
    }

    @Override public boolean isInstalled() {
        return files.keySet().stream().anyMatch(Files::exists);
    }

    @Override public void install() throws IOException {
        Map<Path, String> old = new TreeMap<>();
        for (Path file : files.keySet())
            if (Files.exists(file)) old.put(file, Files.readString(file));
        write(files);
        CommandResult loaded = job.run("sh", "-c", load);
        if (loaded.exit() == 0) return;
        for (Path file : files.keySet()) Files.delete(file);
        write(old);
        if (!old.isEmpty()) job.run("sh", "-c", load);
        throw ExitException.failure("watchdog: the schedule is as it was, because this failed: "
            + load + Text.lastWords(loaded.output()));
    }

    private static void write(Map<Path, String> files) throws IOException {
        for (Path file : files.keySet()) {
            Files.createDirectories(file.getParent());
            SecureFiles.write(file, files.get(file));
        }
    }

    /** If the unit is not loaded, unloading fails, which does no harm. */
    @Override public void remove() throws IOException {
        job.run("sh", "-c", unload);
        for (Path file : files.keySet()) Files.deleteIfExists(file);
    }

    @Override public List<String> problems() {
        return problem.isEmpty() ? List.of() : List.of(problem);
    }
}
