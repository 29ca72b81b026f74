//SOURCES ../watchdog.java

// The command `watchdog` of the schedule: a script in ~/.local/bin, and the jars that it starts, in
// ~/.local/share/watchdog. The script finds Java, and keeps an archive of classes for a fast start.

import java.io.File;
import java.io.IOException;
import java.io.InputStream;
import java.lang.management.ManagementFactory;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.stream.Collectors;
import java.util.stream.Stream;

/** The command, and the copy of the running program that it starts. */
record Installation(Path command, Path data, List<Path> jars, List<String> javaOptions) {
    private static final String MARK = "written by `watchdog schedule --install`";

    static Installation of(Environment env, Path command) {
        List<Path> jars = Stream.of(System.getProperty("java.class.path").split(File.pathSeparator))
            .map(jar -> Path.of(jar).toAbsolutePath()).distinct().toList();
        List<String> foreign =
            List.of(env.variables().getOrDefault("JAVA_TOOL_OPTIONS", "").split(" "));
        List<String> options = ManagementFactory.getRuntimeMXBean().getInputArguments().stream()
            .filter(option -> option.matches("-[XD].*") && !option.matches(".*(Archive|cds).*"))
            .filter(option -> !foreign.contains(option)).toList();
        return new Installation(command, env.folder("XDG_DATA_HOME", ".local/share")
            .resolve("watchdog"), jars, options);
    }

    /** A new version stands beside the old one, which a pass may be using. */
    void install() throws IOException {
        if (Files.exists(command) && !Files.readString(command).contains(MARK))
            throw new IOException(command + " was not " + MARK + "; rename or delete it");
        Path folder = data.resolve(watchdog.VERSION + "-" + build());
        SecureFiles.folder(data);
        if (!Files.exists(folder)) copyTo(folder);
        deleteArchives(folder);
        deleteOthers(folder);
        Files.createDirectories(command.getParent());
        Path script = command.resolveSibling(".watchdog.new");
        Files.writeString(script, script(folder));
        Files.setPosixFilePermissions(script, PosixFilePermissions.fromString("rwxr-xr-x"));
        Files.move(script, command, StandardCopyOption.ATOMIC_MOVE);
    }

    /** The same for the same jars, also for a copy of them: copies keep the time. */
    private String build() throws IOException {
        StringBuilder names = new StringBuilder();
        for (Path jar : jars) {
            if (!Files.isRegularFile(jar)) throw new IOException(jar + " is not a jar; start"
                + " schedule with JBang, or the installed command watchdog");
            names.append(jar.getFileName()).append(Files.size(jar))
                .append(Files.getLastModifiedTime(jar).toMillis());
        }
        return Text.hash(names.toString()).substring(0, 8);
    }

    private void copyTo(Path folder) throws IOException {
        Path copy = Files.createTempDirectory(data, ".new");
        try {
            for (Path jar : jars) Files.copy(jar, copy.resolve(jar.getFileName()),
                StandardCopyOption.COPY_ATTRIBUTES);
            Files.write(copy.resolve("java.args"), javaArguments(folder));
            Files.move(copy, folder, StandardCopyOption.ATOMIC_MOVE);
        } finally {
            CompiledRules.delete(copy); // there is none once it is moved
        }
    }

    private List<String> javaArguments(Path folder) {
        List<String> arguments = new ArrayList<>(javaOptions);
        // Java 25 would complain in each pass about an archive that it cannot use.
        arguments.addAll(List.of("-Xlog:cds*=off:stderr", "-cp"));
        arguments.add(jars.stream().map(jar -> folder.resolve(jar.getFileName()).toString())
            .collect(Collectors.joining(File.pathSeparator)));
        return arguments.stream().map(argument -> "\""
            + argument.replace("\\", "\\\\").replace("\"", "\\\"") + "\"").toList();
    }

    /** The next pass makes a new one, with the classes that the rules of today need. */
    private static void deleteArchives(Path folder) throws IOException {
        try (var archives = Files.newDirectoryStream(folder, "*.jsa")) {
            for (Path archive : archives) Files.delete(archive);
        }
    }

    /** Keeps the newest of the others: a pass that has just begun may use it. */
    private void deleteOthers(Path folder) throws IOException {
        List<Path> others;
        try (Stream<Path> all = Files.list(data)) {
            others = all.filter(other -> !other.equals(folder)).filter(Files::isDirectory)
                .sorted(Comparator.comparing(other -> -other.toFile().lastModified())).toList();
        }
        for (Path other : others.subList(Math.min(1, others.size()), others.size()))
            CompiledRules.delete(other);
    }

    /** The version of Java for which the running program was compiled. */
    private static int javaVersion() throws IOException {
        try (InputStream bytes = watchdog.class.getResourceAsStream("watchdog.class")) {
            return bytes.readNBytes(8)[7] - 44;
        }
    }

    private String script(Path folder) throws IOException {
        boolean mac = System.getProperty("os.name").startsWith("Mac");
        return SCRIPT.replace("<version>", watchdog.VERSION).replace("<mark>", MARK)
            .replace("<folder>", Crontab.quote(folder.toString()))
            .replace("<java>", Crontab.quote(System.getProperty("java.home") + "/bin/java"))
            .replace("<release>", String.valueOf(javaVersion()))
            .replace("<locale>", mac ? "en_US.UTF-8" : "C.UTF-8");
    }

    private static final String SCRIPT = """
        #!/bin/sh
        # watchdog <version>, <mark>, which also replaces this file.
        # It needs the folder below, and Java <release> or newer.
        set -u
        folder=<folder>
        java=<java>

        # cron sets a short PATH and no character set; without one Java cannot open /home/jürgen.
        export PATH="${PATH:-/usr/bin:/bin}:/usr/local/bin:/opt/homebrew/bin:/usr/sbin:/sbin"
        case ${LC_ALL:-${LC_CTYPE:-${LANG:-}}} in
          *UTF-8 | *utf8) ;;
          *) export LC_ALL=<locale> ;;
        esac

        exec 3>/dev/null
        # `--log FILE`: at most two files of 1 MiB. Without a log the pass still runs.
        if [ "${1:-}" = --log ]; then
          [ -z "$(find "$2" -size +2047 2>/dev/null)" ] || mv -f "$2" "$2.old"
          if (umask 077 && mkdir -p "${2%/*}" && true >>"$2") 2>/dev/null; then
            exec 3>&2 >>"$2" 2>&1
          fi
          shift 2
        fi
        # `--page FILE`: what `watchdog report` writes after the pass.
        page=
        if [ "${1:-}" = --page ]; then
          page=$2
          shift 2
        fi

        # Also to where a log does not hide it: cron mails it, and nobody else can report it.
        fail() {
          echo "watchdog: $1" >&2
          echo "watchdog: $1" >&3
          exit 4
        }

        # Java may have been updated or moved.
        find_java() {
          for java in "${JAVA_HOME:-}/bin/java" "$(command -v java)" /usr/lib/jvm/*/bin/java \\
            /opt/homebrew/opt/openjdk*/bin/java /usr/local/opt/openjdk*/bin/java \\
            /Library/Java/JavaVirtualMachines/*/Contents/Home/bin/java \\
            "${HOME:-}"/.sdkman/candidates/java/current/bin/java; do
            version=$("$java" -version 2>&1 | sed -n 's/^[^"]* version "\\([0-9]*\\).*/\\1/p')
            if [ "${version:-0}" -ge <release> ]; then return; fi
          done
          fail "$1 is gone, and there is no Java <release> in JAVA_HOME, PATH and the usual folders"
        }
        [ -x "$java" ] || find_java "$java"
        [ -d "$folder" ] || fail "$folder is gone; run: jbang schedule@catalog --install"

        # An archive of classes makes the start twice as fast. It belongs to one build of Java.
        home=$(readlink -f "$java" 2>/dev/null)
        build=$({ cksum <"${home%/bin/java}/release"; } 2>/dev/null)
        archive=$folder/${build%% *}.jsa
        if [ -z "$page" ] && { [ -e "$archive" ] || [ "${1:-}" != --quiet ]; }; then
          exec "$java" "@$folder/java.args" "-XX:SharedArchiveFile=$archive" watchdog "$@"
        fi

        "$java" "@$folder/java.args" "-XX:SharedArchiveFile=$archive" watchdog "$@"
        code=$?
        # The first pass with a build of Java is made twice, and the second one writes the archive.
        # That may fail, as it does with builds of Java that have no archive of their own.
        if ! [ -e "$archive" ] && rm -f "$folder"/*.jsa && (true >"$archive") 2>/dev/null; then
          "$java" "@$folder/java.args" "-XX:ArchiveClassesAtExit=$archive.new" watchdog "$@" \\
            >/dev/null 2>&1
          [ ! -s "$archive.new" ] || mv "$archive.new" "$archive"
        fi
        if [ -n "$page" ]; then
          "$java" "@$folder/java.args" "-XX:SharedArchiveFile=$archive" watchdog report "$page" "$@"
        fi
        exit $code
        """;
}
