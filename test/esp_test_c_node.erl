%% A C-node for a whole suite, with the plugins of test/plugins loaded, and
%% peer VMs to stand beside it.
-module(esp_test_c_node).

-export([start/1]).
-export([start/2]).
-export([start_measured/1]).
-export([stop/1]).
-export([plugin/1]).
-export([plugin/2]).
-export([vsn_of/1]).
-export([processes/1]).
-export([settled/2]).
-export([kill/1]).
-export([start_peer/1]).
-export([stop_peer/1]).

%% Owned by a process of its own: the one that runs init_per_suite ends before
%% the cases begin.
start(Name) -> start(Name, #{}).

start(Name, Options) ->
    Started = esp_test_lib:start_app(),
    Self = self(),
    Plugins = [plugin(P) || P <- plugins()],
    {Owner, Ref} = spawn_monitor(fun() ->
        {ok, Sup} = esp_node_sup:start_link(
            Name, maps:merge(#{plugins => Plugins, intensity => 100}, Options)
        ),
        Self ! {up, self()},
        receive
            stop -> ok
        end,
        unlink(Sup),
        Gone = monitor(process, Sup),
        exit(Sup, shutdown),
        receive
            {'DOWN', Gone, process, _, _} -> ok
        end
    end),
    receive
        {up, Owner} ->
            demonitor(Ref, [flush]),
            {Name, Started, Owner};
        {'DOWN', Ref, process, _, Reason} ->
            ct:fail(Reason)
    end.

%% For who looks at its memory.
start_measured(Name) ->
    Was = os:getenv("ASAN_OPTIONS", ""),
    [os:putenv(Variable, Value) || {Variable, Value} <- esp_test_dist:environment()],
    try
        start(Name)
    after
        os:putenv("ASAN_OPTIONS", Was)
    end.

stop({Name, Started, Owner}) ->
    Ref = monitor(process, Owner),
    Owner ! stop,
    normal = esp_test_lib:down(Ref),
    esp_test_lib:eventually(c_node_gone, fun() -> esp_test_lib:os_pids(Name) =:= [] end),
    esp_test_lib:stop_app(Started).

plugins() ->
    Folder = filename:dirname(plugin(sums)),
    [list_to_atom(filename:basename(F, ".so")) || F <- filelib:wildcard(filename:join(Folder, "*.so"))].

plugin(Name) ->
    filename:join(filename:dirname(esp_test_lib:plugin()), atom_to_list(Name) ++ ".so").

%% Another image of that name: test/plugins/<Folder>.
plugin(Folder, Name) ->
    File = plugin(Name),
    filename:join([filename:dirname(File), Folder, filename:basename(File)]).

%% The version of the plugin that a native node runs.
vsn_of(Node) ->
    {status, _, _, [_, _, _, _, Misc]} = sys:get_status(Node),
    [Vsn] = [V || {data, Data} <- Misc, {"Version", V} <- Data],
    Vsn.

%% What lives on a C-node. Each answer holds the worker that gave it; no two do.
processes(Name) ->
    Ask = fun() -> erpc:call(esp_node:node(Name), erlang, processes, []) end,
    Then = Ask(),
    Now = Ask(),
    [Pid || Pid <- Then, lists:member(Pid, Now)].

%% Until a C-node's processes are those again.
settled(Name, Before) ->
    Same = lists:sort(Before),
    esp_test_lib:eventually({to_be_gone_from, Name}, fun() ->
        case lists:sort(processes(Name)) of
            Same -> true;
            Now -> [erpc:call(esp_node:node(Name), erlang, process_info, [P]) || P <- Now -- Same]
        end
    end).

%% kill -9, and no word before the VM has noticed.
kill(Name) ->
    CNode = esp_node:node(Name),
    monitor_node(CNode, true),
    esp_test_lib:kill_c_node(Name),
    receive
        {nodedown, CNode} -> ok
    after 10_000 -> ct:fail({still_up, CNode})
    end.

start_peer(Name) ->
    {ok, Pid, Node} = peer:start(#{
        name => peer:random_name(Name),
        host => "127.0.0.1",
        longnames => true,
        connection => standard_io,
        args => ["-pa" | code:get_path()] ++ ["-setcookie", atom_to_list(erlang:get_cookie())]
    }),
    true = net_kernel:connect_node(Node),
    {Pid, Node}.

stop_peer({Pid, _Node}) ->
    peer:stop(Pid).
