%% A small supervisor round one owner. In a user's own supervisor the owner
%% would deadlock with a later child whose start waits for the C-node: that
%% supervisor is the one that waits, and so cannot restart the owner.
-module(esp_node_sup).

-behaviour(supervisor).

-export([start_link/2]).
-export([init/1]).

-spec start_link(atom(), map()) -> {ok, pid()} | {error, term()}.
start_link(Name, Opts) ->
    case esp_config:c_node(Opts#{name => Name}) of
        {ok, _} ->
            case supervisor:start_link(?MODULE, {Name, Opts}) of
                {ok, Pid} -> {ok, Pid};
                {error, {shutdown, {failed_to_start_child, _, Reason}}} -> {error, Reason};
                {error, Reason} -> {error, Reason};
                ignore -> {error, ignore}
            end;
        {error, _} = Error ->
            Error
    end.

-spec init({atom(), map()}) -> {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init({Name, Opts}) ->
    {ok, #{intensity := Intensity, period := Period, grace := Grace}} =
        esp_config:c_node(Opts#{name => Name}),
    Owner = #{
        id => Name,
        start => {esp_node, start_link, [Name, Opts]},
        %% the owner's own grace period has to fit
        shutdown => Grace + 3_000
    },
    {ok, {#{strategy => one_for_one, intensity => Intensity, period => Period}, [Owner]}}.
