%% What a shell user types: C-nodes' processes, shown as the shell's own i/0 and
%% process_info show those of the VM, which are for local pids only.
-module(esp).

-export([i/0]).
-export([i/1]).
-export([info/1]).

%% @doc Prints the processes of every C-node that this VM owns.
-spec i() -> ok.
i() ->
    lists:foreach(fun({_, CNode}) -> show(CNode) end, lists:sort(esp_nodes:all())).

%% @doc Prints the processes of one C-node, by its name or its full name, or just
%% these.
-spec i(atom() | [pid()]) -> ok | {error, term()}.
i(Pids) when is_list(Pids) ->
    c:i(Pids);
i(Name) ->
    show(esp_node:node(Name)).

show(CNode) ->
    case ask(CNode, processes, []) of
        {ok, Pids} ->
            io:format("~ts~n", [CNode]),
            c:i(Pids);
        {error, _} = Error ->
            Error
    end.

%% @doc All that is known of a process, as process_info/1 has it of a local one and
%% what is to be had of it besides; by its pid, or `{Name, CNode}' if it is
%% registered there. For a co-op and its nodes there is {@link coop:info/1}.
-spec info(pid() | {atom(), atom()}) -> [{atom(), term()}] | undefined | {error, term()}.
info({Name, CNode}) ->
    case ask(esp_node:node(CNode), whereis, [Name]) of
        {ok, Pid} when is_pid(Pid) -> info(Pid);
        {ok, undefined} -> undefined;
        {error, _} = Error -> Error
    end;
info(Pid) when is_pid(Pid), node(Pid) =:= node() ->
    process_info(Pid);
info(Pid) when is_pid(Pid) ->
    case ask(node(Pid), process_info, [Pid]) of
        {ok, Info} when is_list(Info) ->
            case ask(node(Pid), process_info, [Pid, more()]) of
                {ok, More} when is_list(More) -> Info ++ More;
                {ok, undefined} -> undefined;
                {error, _} = Error -> Error
            end;
        {ok, undefined} ->
            undefined;
        {error, _} = Error ->
            Error
    end.

%% What process_info/1 leaves out, and what only a C-node has.
more() ->
    [memory, monitors, monitored_by, data_queue_len, control_queue_len, current_task].

ask(Node, Function, Args) ->
    try
        {ok, erpc:call(Node, erlang, Function, Args, 5_000)}
    catch
        error:{erpc, Reason} -> {error, Reason};
        error:{exception, Reason, _} -> {error, Reason}
    end.
