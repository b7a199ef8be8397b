%% Owner of one C-node: starts `priv/esp_node' through a port, and the two end
%% together. What the owner's supervisor sees of the C-node is the owner.
-module(esp_node).

-behaviour(gen_server).

-compile({no_auto_import, [node/1]}).

-export([start_link/2]).
-export([child_spec/1]).
-export([node/1]).
-export([await/2]).
-export([load_plugin/2]).
-export([ensure_plugin/2]).
-export([renew_plugin/2]).
-export([init/1]).
-export([handle_call/3]).
-export([handle_cast/2]).
-export([handle_info/2]).
-export([terminate/2]).

%% How long a lost connection may precede the news of why.
-define(LAST_WORDS, 200).
-define(CALL_TIMEOUT, 10_000).

-record(owner, {
    name :: atom(),
    c_node :: node(),
    port :: port() | closed,
    os_pid :: undefined | integer(),
    grace :: non_neg_integer(),
    line = [] :: iodata()
}).

%% @doc Returns when the C-node is connected and answers.
-spec start_link(atom(), map()) -> {ok, pid()} | {error, term()}.
start_link(Name, Opts) ->
    case esp_config:c_node(Opts#{name => Name}) of
        {ok, Options} ->
            case gen_server:start_link(?MODULE, Options, [{timeout, infinity}]) of
                {ok, Pid} -> {ok, Pid};
                {error, Reason} -> {error, Reason};
                ignore -> {error, ignore}
            end;
        {error, _} = Error ->
            Error
    end.

%% @doc For a supervisor's list, ahead of the co-ops that use the C-node: a small
%% supervisor that restarts the owner by itself. `name' is `esp' if not given,
%% `id' is the child's, all else as in {@link start_link/2}.
-spec child_spec(map()) -> supervisor:child_spec().
child_spec(Opts) ->
    Name = maps:get(name, Opts, esp),
    #{
        id => maps:get(id, Opts, {?MODULE, Name}),
        start => {esp_node_sup, start_link, [Name, maps:without([id, name], Opts)]},
        type => supervisor,
        shutdown => infinity
    }.

%% @doc The C-node's full name; one that is full already stays as it is.
-spec node(atom()) -> node().
node(Name) ->
    case is_full(Name) of
        true -> Name;
        false -> list_to_atom(lists:concat([Name, "_", erlang:node()]))
    end.

is_full(Name) ->
    lists:member($@, atom_to_list(Name)).

%% @doc Waits until the C-node is up. The one named `esp' is started if need be.
-spec await(atom(), timeout()) -> {ok, node()} | {error, term()}.
await(Name, Timeout) ->
    case is_full(Name) of
        true -> connect(Name);
        false -> await_owned(Name, Timeout)
    end.

connect(CNode) ->
    case net_kernel:hidden_connect_node(CNode) of
        true ->
            ok = esp_log_levels:follow(CNode),
            {ok, CNode};
        _ ->
            {error, {not_up, CNode}}
    end.

await_owned(Name, Timeout) ->
    case esp_nodes:find(Name) of
        {ok, CNode, _Owner} ->
            {ok, CNode};
        error ->
            case Name =/= esp orelse esp_sup:start_default_node() of
                {error, _} = Error ->
                    Error;
                _ ->
                    case esp_nodes:await(Name, Timeout) of
                        {ok, CNode, _Owner} -> {ok, CNode};
                        {error, _} = Error -> Error
                    end
            end
    end.

%% @doc Loads a plugin into the C-node, now and after each of its restarts. An
%% atom names one that is loaded already.
-spec load_plugin(atom(), coop_flow:plugin()) -> ok | {error, term()}.
load_plugin(Name, Plugin) when is_atom(Plugin) ->
    case request(node(Name), plugins) of
        {error, _} = Error ->
            Error;
        Plugins ->
            case lists:keymember(Plugin, 1, Plugins) of
                true -> ok;
                false -> {error, {no_plugin, Plugin}}
            end
    end;
load_plugin(Name, Plugin) ->
    case load(node(Name), Plugin) of
        {ok, _, _} ->
            case esp_nodes:find(Name) of
                {ok, _, Owner} ->
                    esp_nodes:add_plugin(Name, Plugin),
                    esp_nodes:mark_loaded(Name, Plugin, Owner);
                error ->
                    ok
            end;
        {error, _} = Error ->
            Error
    end.

%% @doc As load_plugin/2, but one that this C-node has is not loaded again.
-spec ensure_plugin(atom(), coop_flow:plugin()) -> ok | {error, term()}.
ensure_plugin(Name, Plugin) ->
    case esp_nodes:is_loaded(Name, Plugin) of
        true -> ok;
        false -> load_plugin(Name, Plugin)
    end.

%% @doc Loads it if the file is another one than that of the current image.
-spec renew_plugin(node(), coop_flow:plugin()) -> ok | {error, term()}.
renew_plugin(CNode, Plugin) ->
    case load(CNode, Plugin, renew_plugin) of
        {ok, _, _} -> ok;
        {error, _} = Error -> Error
    end.

load(CNode, Plugin) ->
    load(CNode, Plugin, load_plugin).

load(CNode, {App, Plugin}, Request) ->
    case code:priv_dir(App) of
        {error, bad_name} -> {error, {no_app, App}};
        Priv -> load(CNode, filename:join(Priv, atom_to_list(Plugin) ++ ".so"), Request)
    end;
load(CNode, File, Request) ->
    request(CNode, {Request, unicode:characters_to_binary(filename:absname(File))}).

request(CNode, Request) ->
    try
        gen_server:call({erlangsp, CNode}, Request, ?CALL_TIMEOUT)
    catch
        exit:{{nodedown, _}, _} -> {error, noconnection};
        exit:{noconnection, _} -> {error, noconnection};
        exit:{Reason, _} -> {error, Reason}
    end.

%%% The owner

-spec init(esp_config:c_node_options()) -> {ok, #owner{}} | {stop, term()}.
init(Options = #{name := Name, binary := Binary, grace := Grace}) ->
    process_flag(trap_exit, true),
    case {esp_distribution:ensure(), is_executable(Binary)} of
        {ok, true} ->
            CNode = node(Name),
            Port = open(Binary, CNode, Options),
            Owner = #owner{
                name = Name,
                c_node = CNode,
                port = Port,
                os_pid = os_pid(Port),
                grace = Grace
            },
            bring_up(Owner, Options);
        {ok, false} ->
            {stop, {no_executable, Binary}};
        {{error, Reason}, _} ->
            {stop, {not_distributed, Reason}}
    end.

is_executable(Binary) ->
    case file:read_file_info(Binary) of
        {ok, Info} -> element(3, Info) =:= regular andalso element(8, Info) band 8#111 =/= 0;
        {error, _} -> false
    end.

open(Binary, CNode, #{arguments := Arguments, cookie := Cookie0}) ->
    Args = ["--name", atom_to_list(CNode), "--owner", atom_to_list(erlang:node()) | Arguments],
    Cookie = case Cookie0 of undefined -> erlang:get_cookie(); _ -> Cookie0 end,
    Cookie0 =:= undefined orelse erlang:set_cookie(CNode, Cookie),
    Port = open_port(
        {spawn_executable, Binary}, [{args, Args}, {line, 4096}, exit_status, use_stdio, binary]
    ),
    %% a C-node that ended at once has closed the pipe
    try
        port_command(Port, [atom_to_binary(Cookie), $\n])
    catch
        error:badarg -> true
    end,
    Port.

os_pid(Port) ->
    case erlang:port_info(Port, os_pid) of
        {os_pid, OsPid} -> OsPid;
        undefined -> undefined
    end.

bring_up(Owner = #owner{name = Name, c_node = CNode}, Options = #{start_timeout := Timeout}) ->
    Timer = start_timer(Timeout),
    case await_ready(Owner, Timer) of
        {ok, Owner2} ->
            cancel_timer(Timer),
            case greet(CNode) of
                ok ->
                    reload(Name, CNode, maps:get(plugins, Options)),
                    ok = esp_nodes:up(Name, CNode),
                    {ok, Owner2};
                {error, Reason} ->
                    give_up(Reason, Owner2)
            end;
        {error, Reason, Owner2} ->
            give_up(Reason, Owner2)
    end.

start_timer(infinity) -> undefined;
start_timer(Timeout) -> erlang:start_timer(Timeout, self(), start).

cancel_timer(undefined) -> ok;
cancel_timer(Timer) ->
    _ = erlang:cancel_timer(Timer),
    ok.

give_up(Reason, Owner) ->
    _ = kill(Owner),
    {stop, Reason}.

await_ready(Owner = #owner{port = Port}, Timer) ->
    receive
        {Port, {data, {eol, <<"ready ", _/binary>>}}} ->
            {ok, Owner};
        {Port, {data, Line}} ->
            await_ready(line(Line, Owner), Timer);
        {Port, {exit_status, Status}} ->
            {error, reason(Status), Owner#owner{port = closed}};
        {timeout, Timer, start} ->
            {error, start_timeout, Owner};
        {'EXIT', Pid, Reason} when is_pid(Pid) ->
            {error, Reason, Owner}
    end.

greet(CNode) ->
    case net_kernel:hidden_connect_node(CNode) of
        true ->
            monitor_node(CNode, true),
            ok = esp_log_levels:follow(CNode),
            case request(CNode, plugins) of
                {error, Reason} ->
                    {error, Reason};
                Plugins when is_list(Plugins) ->
                    %% what its processes print, and log, goes where ours goes
                    group_leader(group_leader(), erpc:call(CNode, erlang, whereis, [erlangsp])),
                    ok
            end;
        _ ->
            {error, {cannot_connect, CNode}}
    end.

%% What the C-node before this one had been given. One that fails is no reason
%% to be without a C-node: who needs it will be told.
reload(Name, CNode, Given) ->
    New = Given -- esp_nodes:plugins(Name),
    lists:foreach(fun(Plugin) -> esp_nodes:add_plugin(Name, Plugin) end, New),
    lists:foreach(
        fun(Plugin) ->
            case load(CNode, Plugin) of
                {ok, _, _} ->
                    esp_nodes:mark_loaded(Name, Plugin, self());
                {error, Reason} ->
                    logger:error("C-node ~ts: plugin ~tp not loaded: ~tp", [CNode, Plugin, Reason])
            end
        end,
        esp_nodes:plugins(Name)
    ).

-spec handle_call(term(), gen_server:from(), #owner{}) -> {reply, {error, term()}, #owner{}}.
handle_call(Request, _From, Owner) ->
    {reply, {error, {unknown_request, Request}}, Owner}.

-spec handle_cast(term(), #owner{}) -> {noreply, #owner{}}.
handle_cast(Message, Owner) ->
    coop_process:log_unexpected(?MODULE, Message),
    {noreply, Owner}.

-spec handle_info(term(), #owner{}) -> {noreply, #owner{}} | {stop, term(), #owner{}}.
handle_info({Port, {data, Line}}, Owner = #owner{port = Port}) ->
    {noreply, line(Line, Owner)};
handle_info({Port, {exit_status, Status}}, Owner = #owner{port = Port}) ->
    {stop, reason(Status), Owner#owner{port = closed}};
handle_info({nodedown, CNode}, Owner = #owner{c_node = CNode, port = Port}) ->
    %% A connection is lost when the C-node has died, too, and then there is a
    %% better reason. Lost alone, it has cost every co-op: away with the rest.
    receive
        {Port, {exit_status, Status}} -> {stop, reason(Status), Owner#owner{port = closed}}
    after ?LAST_WORDS ->
        {stop, noconnection, kill(Owner)}
    end;
%% its exit status says more; or that of epmd, started on the way
handle_info({'EXIT', Port, _Reason}, Owner) when is_port(Port) ->
    {noreply, Owner};
handle_info(Message, Owner) ->
    coop_process:log_unexpected(?MODULE, Message),
    {noreply, Owner}.

%% The VM's port program reports a signal as 128 and its number.
reason(Status) when Status > 128 -> {signal, Status - 128};
reason(Status) -> {exit_status, Status}.

line({noeol, Part}, Owner = #owner{line = Before}) ->
    Owner#owner{line = [Before, Part]};
line({eol, Part}, Owner = #owner{line = Before, c_node = CNode}) ->
    logger:info("C-node ~ts: ~ts", [CNode, [Before, Part]]),
    Owner#owner{line = []}.

%% @doc End of file on its standard input tells the C-node to end. What is still
%% there after the grace period is killed.
-spec terminate(term(), #owner{}) -> ok.
terminate(_Reason, #owner{port = closed}) ->
    ok;
terminate(_Reason, Owner = #owner{port = Port, os_pid = OsPid, grace = Grace}) ->
    try
        port_close(Port)
    catch
        error:badarg -> true
    end,
    case await_end(OsPid, erlang:monotonic_time(millisecond) + Grace) of
        ok -> ok;
        timeout -> signal("KILL", OsPid)
    end,
    disconnect(Owner).

%% The VM must not believe in the old C-node while the next one starts.
disconnect(#owner{c_node = CNode}) ->
    _ = erlang:disconnect_node(CNode),
    ok.

kill(Owner = #owner{port = closed}) ->
    Owner;
kill(Owner = #owner{port = Port, os_pid = OsPid}) ->
    signal("KILL", OsPid),
    try
        port_close(Port)
    catch
        error:badarg -> true
    end,
    Owner#owner{port = closed}.

%% With its port closed nothing tells us of the end of an OS process.
await_end(undefined, _Deadline) ->
    ok;
await_end(OsPid, Deadline) ->
    case signal("0", OsPid) of
        gone ->
            ok;
        ok ->
            case erlang:monotonic_time(millisecond) > Deadline of
                true ->
                    timeout;
                false ->
                    receive
                    after 20 -> await_end(OsPid, Deadline)
                    end
            end
    end.

signal(_Signal, undefined) ->
    gone;
signal(Signal, OsPid) ->
    Command = lists:concat(["kill -", Signal, " ", OsPid, " 2>/dev/null && echo sent"]),
    case os:cmd(Command) of
        "sent" ++ _ -> ok;
        _ -> gone
    end.
