///usr/bin/env jbang "$0" "$@" ; exit $?
//JAVA 17+
//DESCRIPTION Writes a page about your services: one HTML file that loads nothing and has no script.
//SOURCES ../watchdog.java
//SOURCES Page.java
//SOURCES ReportStyle.java
//SOURCES ToolOutput.java

// The command. Page.java has what the page says, and ReportStyle.java how it looks.

import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermission;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.Set;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;
import picocli.CommandLine.Parameters;

@Command(name = "report", sortOptions = false, description = {
    "Write a page about the services: one HTML file.",
    "The file loads nothing and has no script; it can be copied to any web server."})
public final class report extends Subcommand {
    @Parameters(paramLabel = "FILE", description = "The file; its permissions are kept. A new file"
        + " can be read only by you, and with --public by everybody.")
    Path file;
    @Option(names = "--public", description = "Leave out reasons, URLs, commands, and the name of"
        + " this machine.")
    boolean forEverybody;

    public static void main(String... args) { watchdog.runTool("report", args); }

    @Override int run() {
        ToolOutput output = new ToolOutput(context);
        Path target = target(context, file);
        Workspace work = context.open(false);
        String html = new Page(work, forEverybody).html();
        context.orExit("cannot write the report", () -> {
            Set<PosixFilePermission> mode = Files.exists(target)
                ? Files.getPosixFilePermissions(target)
                : PosixFilePermissions.fromString(forEverybody ? "rw-r--r--" : "rw-------");
            return SecureFiles.write(target, html, PosixFilePermissions.asFileAttribute(mode));
        });
        output.did("wrote", target, "");
        return output.end(0);
    }

    /** Folders are not made: the name of one may be mistyped, or its disk not there now. */
    static Path target(Context context, Path file) {
        Path target = context.env.cwd().resolve(file).normalize(), folder = target.getParent();
        ExitException.mistakeIf(Files.isDirectory(target), target + " is a folder; name a file,"
            + " for example " + target.resolve("index.html"));
        ExitException.mistakeIf(!Files.isDirectory(folder), "there is no folder " + folder
            + "; make it with mkdir, or name another file");
        ExitException.mistakeIf(!Files.isWritable(folder), "you may not write to the folder "
            + folder + "; name another file");
        return target;
    }
}
