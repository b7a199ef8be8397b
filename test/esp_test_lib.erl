%% What the suites share: waiting with a limit that says what it waited for, and
%% the questions that every process of a co-op is asked, native or not.
-module(esp_test_lib).

-export([start_app/0]).
-export([stop_app/1]).
-export([eventually/2]).
-export([holds/2]).
-export([take/1]).
-export([take/2]).
-export([mailbox/0]).
-export([down/1]).
-export([pids/1]).
-export([pid/2]).
-export([stop_linked/1]).
-export([monitors/1]).
-export([plugin/0]).
-export([os_pids/1]).
-export([kill_c_node/1]).
%% questions over a pid
-export([answers_sys_when_idle/1]).
-export([answers_sys_when_suspended/1]).
-export([changes_code_when_suspended/1]).
-export([keeps_state_under_replace/2]).
-export([answers_get_modules/1]).
-export([drops_a_plain_exit_message/1]).
-export([answers_coop_requests/3]).
-export([terminates_with/2]).

-define(LIMIT, 10_000).

start_app() ->
    {ok, Started} = application:ensure_all_started(erlangsp),
    Started.

stop_app(Started) ->
    [ok = application:stop(App) || App <- lists:reverse(Started)],
    ok.

%% Looks again and again; for what no message announces.
eventually(What, Fun) ->
    eventually(What, Fun, erlang:monotonic_time(millisecond) + ?LIMIT).

eventually(What, Fun, Deadline) ->
    case Fun() of
        true ->
            ok;
        Last ->
            erlang:monotonic_time(millisecond) < Deadline orelse
                ct:fail({waited_in_vain_for, What, Last}),
            receive
            after 2 -> eventually(What, Fun, Deadline)
            end
    end.

%% A property of PropEr's.
holds(Property, Tests) ->
    case proper:quickcheck(Property, [quiet, {numtests, Tests}]) of
        true -> ok;
        Other -> ct:fail({Other, counterexample, proper:counterexample()})
    end.

%% The next messages, in order.
take(N) ->
    [
        receive
            Message -> Message
        after ?LIMIT -> ct:fail({waited_in_vain_for, message, I, 'of', N})
        end
     || I <- lists:seq(1, N)
    ].

take(What, Ref) ->
    receive
        {What, Ref, Value} -> Value
    after ?LIMIT -> ct:fail({waited_in_vain_for, What})
    end.

mailbox() ->
    receive
        Message -> [Message | mailbox()]
    after 0 -> []
    end.

%% The reason of a monitored process's end.
down(Ref) ->
    receive
        {'DOWN', Ref, process, _, Reason} -> Reason
    after ?LIMIT -> ct:fail({waited_in_vain_for, end_of_process})
    end.

%% Every process of a co-op: head, nodes, kill switches.
pids(Coop) ->
    #{nodes := Nodes, switches := Switches} = coop:info(Coop),
    [coop:head(Coop) | [Pid || {_, Pid} <- Nodes]] ++ Switches.

%% The node of that name.
pid(Coop, Name) ->
    #{nodes := Nodes} = coop:info(Coop),
    {Name, Pid} = lists:keyfind(Name, 1, Nodes),
    Pid.

%% A co-op that the caller is linked to, whose exits it traps.
stop_linked(Coop) ->
    ok = coop:stop(Coop),
    receive
        {'EXIT', Coop, _} -> ok
    after 2 * ?LIMIT -> ct:fail(not_stopped)
    end.

%% The emulator keeps the last one back until its caller is scheduled out (or has
%% more to say to the same process): then it could find a process dead.
monitors(Pids) ->
    Refs = [monitor(process, Pid) || Pid <- Pids],
    erlang:yield(),
    Refs.

%%% C-nodes

%% The plugin of the mixed suites, in the build folder under test.
plugin() ->
    filename:join([os:getenv("ESP_BUILD_DIR", "."), "plugins", "sums.so"]).

%% The OS process of a C-node, by the name on its command line.
os_pids(Name) ->
    string:lexemes(os:cmd("pgrep -f -- '--name " ++ atom_to_list(esp_node:node(Name)) ++ " '"), "\n").

kill_c_node(Name) ->
    [Pid] = os_pids(Name),
    [] = os:cmd("kill -KILL " ++ Pid),
    ok.

%%% Questions

answers_sys_when_idle(Pid) ->
    {running, _} = status(Pid),
    ok = sys:statistics(Pid, true),
    {ok, Statistics} = sys:statistics(Pid, get),
    [true = lists:keymember(Key, 1, Statistics) || Key <- [start_time, current_time, reductions,
                                                           messages_in, messages_out]],
    ok = sys:statistics(Pid, false),
    {ok, no_statistics} = sys:statistics(Pid, get),
    ok = sys:log(Pid, true),
    {ok, []} = sys:log(Pid, get),
    ok = sys:log(Pid, false),
    ok = sys:trace(Pid, true),
    ok = sys:no_debug(Pid),
    %% only a suspended process changes code
    {error, {unknown_system_msg, _}} = sys:change_code(Pid, lists, undefined, []),
    {error, {unknown_system_msg, no_such_request}} = sys_request(Pid, no_such_request),
    answers_get_modules(Pid),
    ok.

answers_sys_when_suspended(Pid) ->
    ok = sys:suspend(Pid),
    {suspended, _} = status(Pid),
    ok = sys:suspend(Pid),
    _ = sys:get_state(Pid),
    ok = sys:statistics(Pid, true),
    ok = sys:statistics(Pid, false),
    answers_get_modules(Pid),
    #{status := suspended} = coop_process:ask(Pid, info, 5000),
    {suspended, _} = status(Pid),
    ok = sys:resume(Pid),
    {running, _} = status(Pid),
    ok = sys:resume(Pid),
    #{status := running} = coop_process:ask(Pid, info, 5000),
    ok.

changes_code_when_suspended(Pid) ->
    ok = sys:suspend(Pid),
    ok = sys:change_code(Pid, lists, undefined, []),
    ok = sys:resume(Pid),
    ok.

status(Pid) ->
    {status, Pid, {module, Module}, [Dictionary, SysState, Parent, Debug, Misc]} =
        sys:get_status(Pid),
    true = is_atom(Module) andalso is_list(Debug) andalso is_pid(Parent),
    {_, {_, _, _}} = lists:keyfind('$initial_call', 1, Dictionary),
    {_, Ancestors} = lists:keyfind('$ancestors', 1, Dictionary),
    true = is_list(Ancestors),
    [_ | _] = [Header || {header, Header} <- Misc],
    {SysState, Misc}.

sys_request(Pid, Request) ->
    {ok, Reply} = gen:call(Pid, system, Request, 5000),
    Reply.

keeps_state_under_replace(Pid, Change) ->
    Before = sys:get_state(Pid),
    After = Change(Before),
    After = sys:replace_state(Pid, Change),
    After = sys:get_state(Pid),
    try sys:replace_state(Pid, fun(_) -> error(refused) end) of
        _ -> ct:fail(replaced)
    catch
        error:{callback_failed, _, {error, refused}} -> ok
    end,
    After = sys:get_state(Pid),
    ok.

answers_get_modules(Pid) ->
    Pid ! {get_modules, self()},
    Modules =
        receive
            {modules, Listed} -> Listed
        after ?LIMIT -> ct:fail({waited_in_vain_for, modules})
        end,
    {ok, Modules} = gen:call(Pid, self(), get_modules, 5000),
    [_ | _] = Modules,
    true = lists:all(fun is_atom/1, Modules),
    ok.

drops_a_plain_exit_message(Pid) ->
    Ref = monitor(process, Pid),
    [Pid ! {'EXIT', From, boom} || From <- [self(), whereis(init), Pid]],
    _ = sys:get_state(Pid),
    demonitor(Ref),
    [] = [Message || {'DOWN', R, _, _, _} = Message <- mailbox(), R =:= Ref],
    ok.

answers_coop_requests(Pid, Role, Head) ->
    #{
        role := Role,
        queue := 0,
        control := Control,
        in := In,
        out := Out,
        dropped := Dropped,
        status := running,
        blocked := false
    } = coop_process:ask(Pid, info, 5000),
    true = lists:all(fun is_integer/1, [Control, In, Out, Dropped]),
    Head = coop_process:ask(Pid, head, 5000),
    ok.

terminates_with(Pid, Reason) ->
    Ref = monitor(process, Pid),
    ok = sys:terminate(Pid, Reason),
    Reason = down(Ref),
    ok.
