%% A VM with a C-node must be distributed. One that is not yet is made so here,
%% under a name that nobody else has, hidden, and with a line that says so.
-module(esp_distribution).

-export([ensure/0]).

-spec ensure() -> ok | {error, term()}.
ensure() ->
    case is_alive() of
        true -> ok;
        false -> start()
    end.

start() ->
    %% net_kernel only looks for epmd, and fails with a report without it
    start_epmd(),
    Unique = erlang:unique_integer([positive]),
    Name = list_to_atom(lists:concat(["erlangsp_", os:getpid(), "_", Unique])),
    case net_kernel:start(Name, #{name_domain => shortnames, hidden => true}) of
        {ok, _Pid} ->
            logger:notice("erlangsp made this VM distributed, as hidden node ~ts", [node()]),
            ok;
        {error, {already_started, _Pid}} ->
            ok;
        {error, Reason} ->
            {error, Reason}
    end.

%% Harmless if one runs: the new one finds the port taken and ends.
start_epmd() ->
    case find_epmd() of
        false ->
            ok;
        Epmd ->
            Port = open_port({spawn_executable, Epmd}, [{args, ["-daemon"]}, exit_status]),
            receive
                {Port, {exit_status, _}} -> ok
            after 5_000 -> port_close(Port)
            end
    end.

find_epmd() ->
    Erts = filename:join(code:root_dir(), "erts-" ++ erlang:system_info(version)),
    Path = filename:join([Erts, "bin", "epmd"]),
    case filelib:is_regular(Path) of
        true -> Path;
        false -> os:find_executable("epmd")
    end.
