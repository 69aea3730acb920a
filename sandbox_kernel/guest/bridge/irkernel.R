# Starts IRkernel for the bridge: R --slave --no-save --no-restore -f irkernel.R --args FILE
#
# Rule: nothing of this is in the user's workspace. What differs from IRkernel's own ways is
# one of the seven below, and each leaves IRkernel as it is where it cannot be done.

local({
    # 1. A container has no X server; this draws without one.
    if (isTRUE(capabilities("cairo"))) options(bitmapType = "cairo")

    # 2. An interrupt between cells would end R. The handlers of a running cell come first.
    if (exists("globalCallingHandlers", baseenv()) && exists("tryInvokeRestart", baseenv()))
        globalCallingHandlers(interrupt = function(condition) tryInvokeRestart("resume"))

    kernel <- IRkernel:::Kernel$new(connection_file = commandArgs(TRUE)[[1L]])
    executor <- kernel$executor
    send <- executor$send_response
    wait <- Sys.sleep

    # 3. IRkernel shows text when a whole expression is done. A loop that prints is seen
    # while it runs, because those who print, or wait, look whether it is time to pass on.
    last <- 0
    pass_on <- function(is_due = FALSE) {
        now <- proc.time()[[3L]]
        if (is_due || now - last > 0.2) {
            last <<- now
            flush <- asNamespace("evaluate")[[".env"]][["flush_console"]]
            if (is.function(flush)) flush()
        }
    }
    replace <- function(name, namespace, make) tryCatch({
        place <- asNamespace(namespace)
        old <- get(name, place)
        force(old)
        new <- make(old)
        assign_in <- function(environment) if (exists(name, environment, inherits = FALSE)) {
            unlockBinding(name, environment)
            assign(name, new, environment)
            lockBinding(name, environment)
        }
        assign_in(place)
        attached <- paste0("package:", namespace)
        if (attached %in% search()[-length(search())]) assign_in(as.environment(attached))
    }, error = function(e) NULL)
    replace("Sys.sleep", "base", function(old) function(time) {
        pass_on(TRUE)
        old(time)
    })
    replace("cat", "base", function(old) as.function(c(formals(old), quote({
        old(..., file = file, sep = sep, fill = fill, labels = labels, append = append)
        if (identical(file, "")) pass_on()
    })), environment()))
    replace("print.default", "base", function(old) function(x, ...) {
        old(x, ...)
        pass_on()
        invisible(x)
    })
    replace("flush.connection", "base", function(old) function(con) {
        if (identical(as.integer(con), 1L)) pass_on(TRUE)
        old(con)
    })
    replace("flush.console", "utils", function(old) function() {
        pass_on(TRUE)
        old()
    })

    # 4. The value of an expression is a result; IRkernel shows it as any other output.
    options(jupyter.base_display_func = function(data, metadata = NULL) {
        if (is.null(metadata)) metadata <- setNames(list(), character())
        content <- list(data = without_style(data), metadata = metadata)
        send("display_data", executor$current_request, "iopub", content)
        invisible(TRUE)
    })

    # 5. A vector is its text, as in R's own console. Its html brings a style, and html with a
    # style is shown in a frame of its own: half a page for two numbers.
    without_style <- function(data) {
        html <- data[["text/html"]]
        if (is.character(html) && any(startsWith(html, "<style>")))
            data[c("text/html", "text/markdown", "text/latex")] <- NULL
        data
    }

    # 6. What a front end wants evaluated after a cell.
    evaluate_one <- function(code) tryCatch({
        value <- eval(parse(text = code), globalenv())
        c(list(status = "ok"), IRdisplay::prepare_mimebundle(value)[c("data", "metadata")])
    }, error = function(e) list(
        status = "error", ename = "ERROR", evalue = conditionMessage(e), traceback = list()
    ))

    executor$send_response <- function(msg_type, request, socket_name, content) {
        if (msg_type == "execute_input") {
            last <<- 0
        } else if (msg_type == "display_data") {
            msg_type <- "execute_result"
            content$execution_count <- executor$execution_count
            content$data <- without_style(content$data)
        } else if (msg_type == "stream" && content$name == "stderr") {
            # A message has an end of line; IRkernel adds another.
            content$text <- sub("\n\n$", "\n", content$text)
        } else if (msg_type == "execute_reply" && identical(content$status, "ok")) {
            asked <- request$content$user_expressions
            if (length(asked)) content$user_expressions <- lapply(asked, evaluate_one)
        }
        send(msg_type, request, socket_name, content)
    }

    # 7. `quit` ends R, with the status that was given. IRkernel leaves that to the front end.
    quit <- function(save = "default", status = 0, runLast = TRUE) {
        pass_on(TRUE)
        if (runLast && is.function(globalenv()[[".Last"]])) globalenv()[[".Last"]]()
        wait(0.1)  # what was sent last is still on its way, in another thread
        IRkernel:::backup_env$base_quit("no", status, FALSE)
    }
    # IRkernel replaces both before each cell.
    replace("replace_in_package", "IRkernel", function(old) function(pkg, name, FN)
        old(pkg, name, if (name %in% c("quit", "q")) quit else FN))

    kernel$run()
})
